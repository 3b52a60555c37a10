"""From counts to a fitted lattice in one pattern: contrast, rotation search, likelihood fit."""

from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import jax.numpy as jnp

from jax4dstem.coordinates import detector_grid
from jax4dstem.detector import pattern_dose
from jax4dstem.lattice.binning import bin_counts, bin_model, bin_point
from jax4dstem.lattice.choice import FoundLattice
from jax4dstem.lattice.detection import OUTSIDE, DiskKernels, disk_contrast
from jax4dstem.lattice.fit import FitLattice
from jax4dstem.lattice.model import LatticeFit, LatticeModel
from jax4dstem.lattice.nodes import nearest_node
from jax4dstem.lattice.render import render_disks
from jax4dstem.lattice.search import (
    SCALES,
    STRONGEST,
    Hypotheses,
    score_lattice,
    search_lattice,
    values_at,
)
from jax4dstem.typing import Array, Float, FloatPattern, Pattern, Point, Scalar

CLEAR = 6.0  # noise units of a disk that must be explained
ON_NODE = 0.6  # disk radii from a node within which a disk lies on it
EXPLAINED = 0.4  # share of such disks that a lattice must explain: a boundary shows two lattices
SEPARATE = 0.5  # share of the expected contrast beside a lattice's disks, below which a second is not looked for


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
        counts = bin_counts(pattern, model.detector, factor)
        contrast = disk_contrast(counts, kernels)
        found = search_lattice(contrast, bin_point(center, factor), hypotheses)
        start = jnp.linalg.inv(model.lattice) @ found.vectors @ jnp.linalg.inv(model.to_detector)
        fit = self.fit(pattern, center, factor * start, model)
        vectors = model.distorted(fit.distortion) / factor
        middle = bin_point(fit.center, factor)
        score = score_lattice(contrast, middle, vectors, hypotheses)
        share = explained_share(contrast, middle, vectors, model.radius / factor)
        known = FoundLattice(fit.center, fit.distortion, fit.intensities)
        drawn = self.fit.patch, factor
        rest = contrast_without(pattern, counts, known, model, kernels, drawn)
        beside = score_beside(rest, middle, vectors, model.radius / factor, hypotheses)
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


def contrast_without(
    pattern: Pattern,
    counts: Float[Array, "bins_y bins_x"],
    known: FoundLattice,
    model: LatticeModel,
    kernels: DiskKernels,
    drawn: tuple[int, int],
) -> Float[Array, "bins_y bins_x"]:
    """Contrast of a binned pattern less that of the disks of a known lattice, whose noise stays.

    Args:
        pattern: Raw counts ``(det_y, det_x)``.
        counts: The same, binned.
        known: The lattice.
        model: Of it.
        kernels: Filters, in px of the binned pattern.
        drawn: Side of the squares that disks are drawn in, in px of the pattern, and pixels that are joined along an axis.
    """
    patch, binning = drawn
    binned = bin_model(
        model, binning
    )  # drawn where it is filtered: a third of the time of all pixels, and alike to 0.05 noise units
    center, vectors = bin_point(known.center, binning), binned.distorted(known.distortion)
    side = 2 * ceil(patch // 2 / binning) + 1
    shape = counts.shape[0], counts.shape[1]
    disks = render_disks(shape, center, vectors, known.intensities, binned, side)
    return disk_contrast(counts, kernels, pattern_dose(pattern, model.detector) * disks)


def score_beside(
    contrast: FloatPattern,
    center: Point,
    vectors: Float[Array, "2 2"],
    radius: Scalar,
    hypotheses: Hypotheses,
) -> Float[Array, ""]:
    """Evidence for a second lattice beside a known one: the largest Z of `score_apart` over the rotations of the middle scale.

    Args:
        contrast: From `contrast_without`.
        center: (y, x) in px.
        vectors: g1, g2 of the known lattice as rows (y, x) in px.
        radius: Of the disks in px.
        hypotheses: From `rotated_lattices`.

    Returns:
        Z, in units of the noise.
    """
    count = len(hypotheses.vectors) // len(SCALES)
    middle = hypotheses.vectors[len(SCALES) // 2 * count :][:count]
    return jnp.max(score_apart(contrast, center, middle, hypotheses, vectors, radius))


def score_apart(
    contrast: FloatPattern,
    center: Point,
    vectors: Float[Array, "*lattices 2 2"],
    hypotheses: Hypotheses,
    known: Float[Array, "2 2"],
    radius: Scalar,
) -> Float[Array, "*lattices"]:
    """Z of `search_lattice` from reflections farther than a radius from a known lattice's.

    Args:
        contrast: From `contrast_without`.
        center: (y, x) in px.
        vectors: g1, g2 as rows (y, x) in px.
        hypotheses: Whose reflections are summed.
        known: g1, g2 of the known lattice.
        radius: Of the disks in px.

    Returns:
        Z; 0 where less than half of the expected contrast lies apart.
    """
    apart = hypotheses.indices @ vectors
    near = nearest_node(apart[..., 0], apart[..., 1], known).distance_squared
    weights = hypotheses.weights * (near > radius**2)
    values = values_at(contrast, center, vectors, hypotheses.indices, 0.0)
    total = jnp.sum(jnp.minimum(values, STRONGEST) * weights, axis=-1)
    score = total / jnp.sqrt(jnp.maximum(jnp.sum(weights**2, axis=-1), 1e-12))
    enough = jnp.sum(weights, axis=-1) >= SEPARATE * jnp.sum(hypotheses.weights)
    return jnp.where(enough, score, 0.0)
