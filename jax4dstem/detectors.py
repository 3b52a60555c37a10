"""Virtual detectors and detector defects: pattern functions, and masks to feed them."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.coordinates import radius_from
from jax4dstem.errors import InputError
from jax4dstem.typing import Array, Bool, Float, Int, Mask, Num, Pattern, Point, Scalar

FEWEST_COUNTS = (
    20.0  # of every neighbor of a dead pixel, in all patterns: none by chance in 5e8 pixels
)


def disk_mask(shape: tuple[int, ...], center: Point, radius: Scalar) -> Float[Array, "det_y det_x"]:
    """Soft-edged disk: 1 inside, 0 outside, linear over one pixel across the rim.

    The linear rim makes sums over the disk differentiable in ``center`` and ``radius``.

    Args:
        shape: ``(det_y, det_x)``.
        center: ``(y, x)`` in px.
        radius: In px.

    Returns:
        Weights in [0, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> float(disk_mask((9, 9), jnp.array([4.0, 4.0]), 2.0).sum().round())
        13.0
    """
    return jnp.clip(radius + 0.5 - radius_from(center, shape), 0.0, 1.0)


def annular_mask(
    shape: tuple[int, ...], center: Point, inner: Scalar, outer: Scalar
) -> Float[Array, "det_y det_x"]:
    """Soft-edged ring between ``inner`` and ``outer`` radius in px; see `disk_mask`."""
    return disk_mask(shape, center, outer) - disk_mask(shape, center, inner)


def virtual_image(pattern: Pattern, mask: Mask) -> Float[Array, ""]:
    r"""Signal of a virtual detector, :math:`\sum_{yx} I_{yx} m_{yx}`; lifted, one pixel of an image.

    Example:
        >>> import jax.numpy as jnp
        >>> float(virtual_image(jnp.ones((4, 4)), jnp.eye(4)))
        4.0
    """
    return jnp.vdot(pattern.astype(float), mask)


def bright_field(pattern: Pattern, center: Point, radius: Scalar) -> Float[Array, ""]:
    """Signal of a disk of ``radius`` px that follows the pattern's own ``center`` (y, x)."""
    return virtual_image(pattern, disk_mask(pattern.shape, center, radius))


def annular_dark_field(
    pattern: Pattern, center: Point, inner: Scalar, outer: Scalar
) -> Float[Array, ""]:
    """Signal of a ring that follows the pattern's own ``center``.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: ``(y, x)`` of the direct beam in px.
        inner: Inner radius in px.
        outer: Outer radius in px.
    """
    return virtual_image(pattern, annular_mask(pattern.shape, center, inner, outer))


def center_of_mass(pattern: Num[Array, "det_y det_x"]) -> Float[Array, "2"]:
    r"""First moment :math:`\sum r I / \sum I` as (y, x) in px; NaN for an empty pattern.

    One matrix product with [1, x] gives the sums over x, so the pattern is read once.

    Example:
        >>> import jax.numpy as jnp
        >>> center_of_mass(jnp.zeros((5, 5)).at[1, 3].set(2.0)).tolist()
        [1.0, 3.0]
    """
    height, width = pattern.shape
    x = jnp.stack([jnp.ones(width), jnp.arange(width, dtype=float)], axis=1)
    rows = pattern.astype(x.dtype) @ x
    total, moment_x = jnp.sum(rows, axis=0)
    moment_y = rows[:, 0] @ jnp.arange(height, dtype=x.dtype)
    return jnp.stack([moment_y, moment_x]) / total


def total_counts(pattern: Pattern) -> Float[Array, ""]:
    """Sum of the pattern: its dose, where the detector counts electrons."""
    return jnp.sum(pattern.astype(float))


def count_invalid(pattern: Pattern) -> Int[Array, ""]:
    """Number of pixels that are NaN or infinite; all of them when the pattern is blank (all zero)."""
    invalid = jnp.sum(~jnp.isfinite(pattern.astype(float)))
    blank = jnp.all(pattern == 0)
    return jnp.where(blank, pattern.size, invalid)


def normalize_dose(pattern: Pattern, reference: Scalar = 1.0) -> Float[Array, "det_y det_x"]:
    """Scale the pattern to a total of ``reference`` counts; NaN for an empty pattern."""
    return pattern * (reference / total_counts(pattern))


def normalize_peak(pattern: Pattern) -> Float[Array, "det_y det_x"]:
    """Scale the pattern to a maximum of 1; NaN for an empty pattern."""
    return pattern / jnp.max(pattern).astype(float)


def repair_pixels(pattern: Pattern, bad: Bool[Array, "det_y det_x"]) -> Float[Array, "det_y det_x"]:
    """Replace bad pixels by the mean of the good ones among their eight neighbors.

    Args:
        pattern: ``(det_y, det_x)``.
        bad: True where the detector is hot or dead, as from `find_bad_pixels`.

    Returns:
        The pattern in floating point; a bad pixel without good neighbors becomes 0.
    """
    good = jnp.where(bad, 0.0, 1.0)
    counts, n = _sum_3x3(pattern * good), _sum_3x3(good)
    return jnp.where(bad, counts / jnp.maximum(n, 1), pattern)


def _sum_3x3(image: Array) -> Array:
    height, width = image.shape
    padded = jnp.pad(image, 1)
    rows = padded[:height] + padded[1:-1] + padded[2:]
    return rows[:, :width] + rows[:, 1:-1] + rows[:, 2:]


def exclude_pixels(
    pattern: Pattern, bad: Bool[Array, "det_y det_x"]
) -> Float[Array, "det_y det_x"]:
    """Set bad pixels to -1: likelihood fits leave negative counts out."""
    return jnp.where(bad, -1.0, pattern.astype(float))


def find_bad_pixels(
    mean: np.ndarray, std: np.ndarray, n_patterns: int, *, contrast: float = 5.0
) -> np.ndarray:
    """Find hot and dead detector pixels from the scan's mean and standard deviation.

    Optics spreads even a sharp spot over neighboring pixels. A pixel is hot when its mean exceeds
    ``contrast`` times *every* neighbor and the mean of the whole detector, unless it is the peak of
    the direct beam, and dead when it never changes while all its neighbors do, each with so many counts in
    all patterns together that chance does not explain it.

    Args:
        mean: ``(det_y, det_x)`` mean pattern.
        std: ``(det_y, det_x)`` standard deviation over the scan.
        n_patterns: Number of patterns behind them.
        contrast: How far a hot pixel stands out.

    Returns:
        Boolean ``(det_y, det_x)``, True for bad pixels.
    """
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    brightest_neighbor = ndimage.maximum_filter(mean, footprint=ring, mode="nearest")
    hot = mean > contrast * np.maximum(brightest_neighbor, mean.mean())
    # A parallel beam may fall on one pixel: the heaviest 3 x 3 region without its center is its tail.
    tail = ndimage.convolve(mean, ring.astype(mean.dtype), mode="constant")
    y, x = np.unravel_index(np.argmax(np.where(hot, 0, tail)), mean.shape)
    hot[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
    # For Poisson noise of any gain (mean / std)² is the mean number of counts.
    counts = n_patterns * np.divide(mean**2, std**2, where=std > 0, out=np.zeros_like(mean))
    quietest_neighbor = ndimage.minimum_filter(counts, footprint=ring, mode="nearest")
    dead = (std == 0) & (quietest_neighbor > FEWEST_COUNTS)
    return hot | dead


def check_ring(
    shape: tuple[int, int], center: tuple[float, float], inner: float, outer: float
) -> None:
    """Raise InputError unless the ring has pixels and lies on the detector."""
    height, width = shape
    y, x = center
    room = min(y + 0.5, x + 0.5, height - 0.5 - y, width - 0.5 - x)
    if not 0 <= inner < outer:
        raise InputError(
            f"mask radii must satisfy 0 <= inner < outer, got {inner:g} and {outer:g} px"
        )
    if outer > room:
        raise InputError(
            f"a mask of outer radius {outer:g} px around ({y:.1f}, {x:.1f}) leaves the "
            f"{height} x {width} detector; the largest that fits is {room:.1f} px"
        )
