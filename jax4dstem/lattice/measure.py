"""From counts to a fitted lattice in one pattern: contrast, rotation search, likelihood fit."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.coordinates import detector_grid
from jax4dstem.lattice.binning import bin_counts, bin_point
from jax4dstem.lattice.detection import OUTSIDE, DiskKernels, disk_contrast
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.model import LatticeFit, LatticeModel
from jax4dstem.lattice.nodes import nearest_node
from jax4dstem.lattice.search import (
    SCALES,
    STRONGEST,
    Hypotheses,
    score_lattice,
    search_lattice,
)
from jax4dstem.typing import Array, Float, FloatPattern, Pattern, Point, Scalar

CLEAR = 6.0  # noise units of a disk that must be explained
ON_NODE = 0.6  # disk radii from a node within which a disk lies on it
EXPLAINED = 0.4  # share of such disks that a lattice must explain: a boundary shows two lattices
ALONE = 2.0  # disk radii from a node of a lattice, from which on a disk of another does not touch its own
# Mean and standard deviation of the positive part of a standard normal: of contrast where there is nothing.
HALF_MEAN = (2 * np.pi) ** -0.5
HALF_DEVIATION = (0.5 - 1 / (2 * np.pi)) ** 0.5


class LatticeSetup(NamedTuple):
    """All that is shared by the scan.

    Attributes:
        kernels: Filters, in px of the binned pattern that is searched.
        hypotheses: Rotated lattices, in px of the binned pattern.
        model: In px of the pattern.
    """

    kernels: DiskKernels
    hypotheses: Hypotheses
    model: LatticeModel


@dataclass(frozen=True)
class MeasureLattice:
    """Pattern function: the lattice of a pattern, from the center of the direct beam alone.

    Attributes:
        fit: The likelihood fit that follows the search; its binning is the search's.

    Example:
        `learn_lattice` makes it, with the setup that it needs, and shows how it is mapped over a scan.

        >>> MeasureLattice(FitLattice(11, binning=2)).fit.modes
        0
    """

    fit: FitLattice

    def __call__(self, pattern: Pattern, center: Point, setup: LatticeSetup) -> LatticeFit:
        """Search all rotations, fit, and score the fitted lattice.

        Args:
            pattern: Raw counts ``(det_y, det_x)``.
            center: Of the direct beam, (y, x) in px.
            setup: Shared by the scan.
        """
        kernels, hypotheses, model = setup
        factor = self.fit.binning
        contrast = disk_contrast(bin_counts(pattern, model.detector, factor), kernels)
        found = search_lattice(contrast, bin_point(center, factor), hypotheses)
        start = jnp.linalg.inv(model.lattice) @ found.vectors @ jnp.linalg.inv(model.to_detector)
        fit = self.fit(pattern, center, factor * start, model)
        vectors = model.distorted(fit.distortion) / factor
        middle = bin_point(fit.center, factor)
        score = score_lattice(contrast, middle, vectors, hypotheses)
        at = contrast, middle, vectors, model.radius / factor
        share = explained_share(*at)
        beside = score_beside(*at, hypotheses)
        return fit._replace(score=jnp.where(share >= EXPLAINED, score, 0.0), beside=beside)


def explained_share(
    contrast: FloatPattern, center: Point, vectors: Float[Array, "2 2"], radius: Scalar
) -> Float[Array, ""]:
    """Share of the clear disks of a pattern that lie on a lattice; 1 when there are none.

    Clear disks are maxima of the contrast above six noise units, outside of the direct beam; on the lattice
    means within 0.6 disk radii, at least a pixel and a half, of a node.

    Args:
        contrast: From `disk_contrast`.
        center: (y, x) in px.
        vectors: g1, g2 as rows (y, x) in px.
        radius: Of the disks in px.
    """
    y, x = detector_grid(contrast.shape)
    y, x = y - center[0], x - center[1]
    peak = (contrast > CLEAR) & (y**2 + x**2 > (OUTSIDE * radius) ** 2)
    for axis in (0, 1):
        for step in (-1, 1):
            peak &= contrast >= jnp.roll(contrast, step, axis)
    near = nearest_node(y, x, vectors).distance_squared <= jnp.maximum(ON_NODE * radius, 1.5) ** 2
    return jnp.sum(peak & near) / jnp.maximum(jnp.sum(peak), 1) + (jnp.sum(peak) == 0)


def score_beside(
    contrast: FloatPattern,
    center: Point,
    vectors: Float[Array, "2 2"],
    radius: Scalar,
    hypotheses: Hypotheses,
) -> Float[Array, ""]:
    r"""Evidence for a second lattice beside a known one, from contrast that is at hand.

    .. math:: Z = \max_G \frac{\sum_j w_j m_j \left(\min(S_j^+, 8) - \mu\right)}{\sigma \sqrt{\sum_j w_j^2}}

    over the rotations G, of those reflections (m = 1) whose disks do not touch the known lattice's. Contrast counts where it
    is positive (S⁺), as a disk of the known lattice in the surroundings of another takes any amount from it; μ and σ² are
    mean and variance of the positive part of noise. It is a lower bound that costs little: what `MeasurePair` finds counts.

    Args:
        contrast: S from `disk_contrast`.
        center: (y, x) in px.
        vectors: g1, g2 of the known lattice as rows (y, x) in px.
        radius: Of the disks in px.
        hypotheses: From `rotated_lattices`; those of the middle scale are compared.

    Returns:
        Z, in units of the noise.
    """
    y, x = detector_grid(contrast.shape)
    near = nearest_node(y - center[0], x - center[1], vectors).distance_squared
    above = jnp.clip(contrast, 0.0, STRONGEST) - HALF_MEAN
    above = jnp.where(near > (ALONE * radius) ** 2, above, 0.0)
    count = len(hypotheses.vectors) // len(SCALES)
    middle = hypotheses.vectors[len(SCALES) // 2 * count :][:count]
    return jnp.max(score_lattice(above, center, middle, hypotheses)) / HALF_DEVIATION
