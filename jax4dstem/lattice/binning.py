"""Lattices in binned patterns, where the search and the first steps of a fit are cheap."""

import jax.numpy as jnp

from jax4dstem.dataset import BinDetector
from jax4dstem.detector import Detector
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.typing import Array, Float, Pattern, Point

SMALLEST_RADIUS = 1.75  # px that a disk's radius must keep
COARSEST = 4  # px joined along an axis at most: a fit that starts there must reach the full pattern


def search_binning(radius: float) -> int:
    """Pixels that may be joined along an axis so that a disk is still seen as a disk.

    Example:
        >>> search_binning(4.2), search_binning(2.9)
        (2, 1)
    """
    return int(min(max(radius // SMALLEST_RADIUS, 1), COARSEST))


def bin_counts(pattern: Pattern, detector: Detector, factor: int) -> Float[Array, "bins_y bins_x"]:
    """Sums over squares of pixels: infinite where one is saturated, NaN where one is not finite.

    What is masked is said by the mask of `bin_detector`, whatever the sums are there.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        detector: Its saturation is used.
        factor: Pixels along each side of a square.

    Returns:
        The sums; pixels that fill no whole square are left out.

    Example:
        >>> pattern = jnp.array([[1.0, 2.0, 3.0, 9.0], [4.0, 5.0, 1.0, 2.0]])
        >>> bin_counts(pattern, Detector(saturation=9.0), 2).tolist()
        [[12.0, inf]]
    """
    counts = jnp.where(pattern < detector.saturation, pattern.astype(float), jnp.inf)
    return BinDetector(factor)(jnp.where(jnp.isfinite(pattern), counts, jnp.nan))


def bin_detector(detector: Detector, factor: int) -> Detector:
    """The detector of binned patterns: a square with an unusable pixel is not usable.

    Example:
        >>> half = jnp.array([[True, True, True, True], [True, True, True, False]])
        >>> binned = bin_detector(Detector(saturation=9.0, mask=half), 2)
        >>> binned.saturation, binned.mask.tolist()
        (36.0, [[True, False]])
    """
    mask = detector.mask
    if mask is not None:
        mask = BinDetector(factor)(mask.astype(int)) == factor**2
    return Detector(detector.noise.summed(factor**2), detector.saturation * factor**2, mask)


def bin_point(point: Point, factor: int) -> Point:
    """A position in px of the binned pattern.

    Args:
        point: (y, x) in px of the pattern.
        factor: Pixels along each side of a square.

    Returns:
        (y, x) in px of the binned pattern.

    Example:
        >>> bin_point(jnp.array([0.5, 4.5]), 2).tolist()
        [0.0, 2.0]
    """
    return (point - 0.5 * (factor - 1)) / factor


def unbin_point(point: Point, factor: int) -> Point:
    """A position (y, x) in px of the pattern from one in px of the binned pattern."""
    return point * factor + 0.5 * (factor - 1)


def bin_model(model: LatticeModel, factor: int) -> LatticeModel:
    """The model in px of the binned pattern of `bin_counts`."""
    radii = jnp.arange(model.background.shape[0] // factor + 2) * factor
    return model._replace(
        lattice=model.lattice / factor,
        radius=model.radius / factor,
        edge_width=model.edge_width / factor,
        background=jnp.interp(
            radii.astype(float), jnp.arange(len(model.background)), model.background
        ),
        detector=bin_detector(model.detector, factor),
    )
