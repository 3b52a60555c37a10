"""The image of the probe, learned from the disks of a scan where they contradict a soft disk."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.evidence import convincing, mean_over_fits
from jax4dstem.lattice.fit import expected_around, position_scatter
from jax4dstem.lattice.intensities import learn_intensities
from jax4dstem.lattice.measure import LatticeSetup, MeasureLattice
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.lattice.patches import patch_side_around, reflection_positions
from jax4dstem.lattice.probe import EXTENT, as_image, normalized
from jax4dstem.lattice.profiles import learn_background
from jax4dstem.lattice.sample import ScanSample
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Pattern

ROUNDS = 4  # of changes to an image: the third one of a bullseye's is still clear, and strain errs by 2 % less with a fifth
FINE = 4  # iterations with an image, whose inner edges are steeper than they are long: after two, two thirds have settled


def learn_probe(
    setup: LatticeSetup,
    measure: MeasureLattice,
    sample: ScanSample,
    center: np.ndarray,
    fits: Any,
) -> tuple[LatticeSetup, MeasureLattice, Any]:
    """An image of the probe, and all that depends on it, where the disks clearly contradict the model's."""
    model, clear = probe_image(setup.model, sample, fits)
    measure = MeasureLattice(replace(measure.fit, fine=FINE)) if clear else measure

    def fitted(model: LatticeModel) -> tuple[LatticeModel, Any]:
        own = setup._replace(model=model)
        return model, map_patterns(measure, sample.dataset, own, per_position=(center,))

    for _ in range(ROUNDS):
        if not clear:
            break
        model, fits = fitted(model)
        model, fits = fitted(learn_background(model, sample, fits))
        model, fits = fitted(learn_intensities(model, sample, fits))
        model, fits = fitted(learn_scatter(model, sample, fits))
        setup = setup._replace(model=model)
        model, clear = probe_image(model, sample, fits)
    return setup, measure, fits


def learn_scatter(
    model: LatticeModel, sample: ScanSample, fits: Any, modes: int = 0
) -> LatticeModel:
    """How much more than the noise explains disks scatter about the lattices; see `position_scatter`."""
    model = model._replace(scatter=None)
    of_disks = ScatterOfDisks(patch_side_around(float(model.radius), model.tightest), modes)
    found, by_noise = mean_over_fits(of_disks, sample, fits, model, None)
    scatter = np.asarray(found) / np.maximum(np.asarray(by_noise), 1e-6)
    return model._replace(scatter=jnp.asarray(np.maximum(scatter, 1.0), jnp.float32))


class DiskResiduals(NamedTuple):
    """Counts beyond expectation by where in a disk they are, on the nodes of an image ``(m, m)``.

    Attributes:
        excess: Counts above the expected ones, of all disks, weighed by 1 / dispersion.
        height: Height of the disks, summed over the same pixels with the same weights.
        diffracted: Excess of the diffracted disks alone.
        variance: Of that.
    """

    excess: Array
    height: Array
    diffracted: Array
    variance: Array


def probe_image(model: LatticeModel, sample: ScanSample, fits: Any) -> tuple[LatticeModel, bool]:
    r"""The model with what the disks say beyond its probe, and whether they say it clearly.

    At every node m of an image of the probe, the counts n around all reflections j of all clear fits that lie nearest to it change
    its height by

    .. math:: \Delta c_m = \frac{\sum (n - \lambda)}{\sum a_j} ,

    with the expected counts λ and the heights a of the disks. That is clear where it raises the likelihood of the diffracted disks
    by more than its K heights cost by Akaike's criterion, which asks for the better prediction (noise alone gives K, give or take
    the root of 2 K):

    .. math:: \sum_m \frac{\left(\sum (n - \lambda)\right)^2}{\sum \operatorname{var} n} > 2 K .

    Args:
        model: That the fits were made with.
        sample: Patterns as raw counts.
        fits: Of the sample.

    Returns:
        The model with the new image, and whether that is clear.

    Reference: H. Akaike, A new look at the statistical model identification, IEEE Trans. Autom. Control 19, 716 (1974).
    """
    radius = float(model.radius)
    before = model.image if model.image is not None else as_image(radius, float(model.edge_width))
    heights = np.asarray(before, np.float64)
    sums = SumResiduals(patch_side_around(radius, model.tightest))
    found = mean_over_fits(sums, sample, fits, model, jnp.zeros(heights.shape))
    number = int(convincing(fits).sum())
    excess, height, diffracted, variance = (number * np.asarray(part, np.float64) for part in found)
    nodes = np.linspace(-EXTENT, EXTENT, len(heights)) * radius
    inside = (np.hypot(nodes[:, None], nodes) < radius + 1) & (variance > 0)
    gain = float(np.sum(diffracted[inside] ** 2 / variance[inside]))
    changed = heights + np.where(height > 0, excess / np.maximum(height, 1e-30), 0)
    return model._replace(image=jnp.asarray(normalized(changed))), gain > 2 * int(inside.sum())


@dataclass(frozen=True)
class SumResiduals:
    """Pattern function: `DiskResiduals` of one pattern, heights of disks and backgrounds at their optimum.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
    """

    patch: int

    def __call__(
        self, pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, nodes: Array
    ) -> DiskResiduals:
        """Sums over the nodes of an image of zeros, ``nodes``."""
        patches, counts, heights = expected_around(pattern, center, distortion, model, self.patch)
        positions = reflection_positions(center, distortion, model)
        size = nodes.shape[0]
        step = 2 * EXTENT * model.radius / (size - 1)
        row, column = (
            jnp.round(gaps / step + 0.5 * (size - 1)).astype(int)
            for gaps in patches.apart(positions)
        )

        def by_node(values: Array) -> Array:
            shaped = jnp.broadcast_to(values, patches.used.shape) * patches.used
            shaped = shaped.reshape(*row.shape, column.shape[1])
            return nodes.at[row[:, :, None], column[:, None, :]].add(
                shaped, mode="drop", wrap_negative_indices=False
            )

        weight = 1 / model.dispersion[:, None]
        diffracted = jnp.any(model.indices != 0, axis=1)[:, None].astype(float)
        excess = patches.counts - counts
        variance = model.detector.noise.variance(counts) * model.dispersion[:, None]
        return DiskResiduals(
            by_node(weight * excess),
            by_node(weight * heights[:, :1]),
            by_node(diffracted * excess),
            by_node(diffracted * variance),
        )


@dataclass(frozen=True)
class ScatterOfDisks:
    """Pattern function: `position_scatter`.

    Attributes:
        patch: Side of the patches around the reflections, in px, odd.
        modes: Polynomials inside the disks.
    """

    patch: int
    modes: int = 0

    def __call__(
        self, pattern: Pattern, center: Any, distortion: Any, model: LatticeModel, nothing: None
    ) -> tuple[Array, Array]:
        """Of a fitted lattice."""
        return position_scatter(pattern, center, distortion, model, self.patch, self.modes)
