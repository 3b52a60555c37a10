"""Lattices in binned patterns, where the search and the first steps of a fit are cheap."""

import jax.numpy as jnp

from jax4dstem.dataset import BinDetector
from jax4dstem.lattice.model import LatticeModel
from jax4dstem.typing import Array, Float, Pattern, Point, Scalar

SMALLEST_RADIUS = 1.75  # px that a disk's radius must keep
COARSEST = 4  # px joined along an axis at most: a fit that starts there must reach the full pattern


def search_binning(radius: float) -> int:
    """Pixels that may be joined along an axis so that a disk is still seen as a disk.

    Example:
        >>> search_binning(4.2), search_binning(2.9)
        (2, 1)
    """
    return int(min(max(radius // SMALLEST_RADIUS, 1), COARSEST))


def bin_counts(pattern: Pattern, saturation: Scalar, factor: int) -> Float[Array, "bins_y bins_x"]:
    """Sums over squares of pixels: infinite where one is saturated, below zero or NaN where one is not valid.

    Args:
        pattern: Counts ``(det_y, det_x)``; negative or NaN pixels are not valid.
        saturation: Counts from which on a pixel is saturated.
        factor: Pixels along each side of a square.

    Example:
        >>> bin_counts(jnp.array([[1.0, 2.0, 3.0, 9.0], [4.0, 5.0, 1.0, 2.0]]), 9.0, 2).tolist()
        [[12.0, inf]]
    """
    counts = jnp.where(pattern < saturation, pattern.astype(float), jnp.inf)
    return BinDetector(factor)(jnp.where(pattern >= 0, counts, -jnp.inf))


def bin_point(point: Point, factor: int) -> Point:
    """A position (y, x) in px of the binned pattern."""
    return (point - 0.5 * (factor - 1)) / factor


def unbin_point(point: Point, factor: int) -> Point:
    """A position (y, x) in px of the pattern from one in px of the binned pattern."""
    return point * factor + 0.5 * (factor - 1)


def bin_model(model: LatticeModel, factor: int) -> LatticeModel:
    """The model in px of the binned pattern of `bin_counts`."""
    radii = jnp.arange(model.background.shape[0] // factor + 2) * factor
    return model._replace(
        vectors=model.vectors / factor,
        radius=model.radius / factor,
        edge_width=model.edge_width / factor,
        background=jnp.interp(
            radii.astype(float), jnp.arange(len(model.background)), model.background
        ),
        saturation=model.saturation * factor**2,
    )
