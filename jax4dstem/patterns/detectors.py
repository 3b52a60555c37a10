"""Virtual detectors: pattern functions, and masks to feed them."""

import jax.numpy as jnp

from jax4dstem.coordinates import radius_from
from jax4dstem.errors import InputError
from jax4dstem.typing import Array, Float, Int, Mask, Num, Pattern, Point, Scalar


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
    """Soft-edged ring between ``inner`` and ``outer`` radius in px; see `disk_mask`.

    Args:
        shape: ``(det_y, det_x)``.
        center: ``(y, x)`` in px.
        inner: Inner radius in px.
        outer: Outer radius in px.

    Returns:
        ``(det_y, det_x)``: 1 in the ring, 0 outside, in between where an edge crosses the pixel.

    Example:
        >>> import jax.numpy as jnp
        >>> annular_mask((1, 6), jnp.array([0.0, 0.0]), 1.5, 3.5).tolist()
        [[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]]
    """
    return disk_mask(shape, center, outer) - disk_mask(shape, center, inner)


def virtual_image(pattern: Pattern, mask: Mask) -> Float[Array, ""]:
    r"""Signal of a virtual detector, :math:`\sum_{yx} I_{yx} m_{yx}`; lifted, one pixel of an image.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        mask: ``(det_y, det_x)``, the weight m of every pixel.

    Returns:
        The weighted sum, in counts.

    Example:
        >>> import jax.numpy as jnp
        >>> float(virtual_image(jnp.ones((4, 4)), jnp.eye(4)))
        4.0
    """
    return jnp.vdot(pattern.astype(float), mask)


def bright_field(pattern: Pattern, center: Point, radius: Scalar) -> Float[Array, ""]:
    """Signal of a disk of ``radius`` px that follows the pattern's own ``center`` (y, x).

    Args:
        pattern: ``(det_y, det_x)`` counts.
        center: ``(y, x)`` of the direct beam in px.
        radius: Of the disk in px.

    Returns:
        Counts in the disk; a pixel that its edge crosses counts in part.

    Example:
        >>> import jax.numpy as jnp
        >>> pattern = jnp.zeros((9, 9)).at[4, 4].set(5.0).at[0, 0].set(2.0)
        >>> float(bright_field(pattern, jnp.array([4.0, 4.0]), 2.0))
        5.0
    """
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

    Returns:
        Counts in the ring; a pixel that its edge crosses counts in part.

    Example:
        >>> import jax.numpy as jnp
        >>> pattern = jnp.zeros((9, 9)).at[4, 7].set(5.0)
        >>> float(annular_dark_field(pattern, jnp.array([4.0, 4.0]), 1.0, 4.0))
        5.0
    """
    return virtual_image(pattern, annular_mask(pattern.shape, center, inner, outer))


def center_of_mass(pattern: Num[Array, "det_y det_x"]) -> Float[Array, "2"]:
    r"""First moment :math:`\sum r I / \sum I` as (y, x) in px; NaN for an empty pattern.

    One matrix product with [1, x] gives the sums over x, so the pattern is read once.

    Args:
        pattern: ``(det_y, det_x)`` counts.

    Returns:
        ``(y, x)`` in px from the middle of pixel [0, 0].

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
    """Sum of the pattern: its dose, where the detector counts electrons.

    Args:
        pattern: ``(det_y, det_x)`` counts.

    Returns:
        The sum, in counts.

    Example:
        >>> import jax.numpy as jnp
        >>> float(total_counts(jnp.ones((4, 4), jnp.uint8)))
        16.0
    """
    return jnp.sum(pattern.astype(float))


def count_invalid(pattern: Pattern) -> Int[Array, ""]:
    """Number of pixels that are NaN or infinite; all of them when the pattern is blank (all zero).

    Args:
        pattern: ``(det_y, det_x)``.

    Returns:
        The number of pixels.

    Example:
        >>> import jax.numpy as jnp
        >>> int(count_invalid(jnp.array([[1.0, jnp.nan]]))), int(count_invalid(jnp.zeros((2, 3))))
        (1, 6)
    """
    invalid = jnp.sum(~jnp.isfinite(pattern.astype(float)))
    blank = jnp.all(pattern == 0)
    return jnp.where(blank, pattern.size, invalid)


def normalize_dose(pattern: Pattern, reference: Scalar = 1.0) -> Float[Array, "det_y det_x"]:
    """Scale the pattern to a total of ``reference`` counts; NaN for an empty pattern.

    Args:
        pattern: ``(det_y, det_x)`` counts.
        reference: Total of the result, in counts.

    Returns:
        ``(det_y, det_x)``, the pattern times one factor.

    Example:
        >>> import jax.numpy as jnp
        >>> normalize_dose(jnp.array([[1, 3]]), 8.0).tolist()
        [[2.0, 6.0]]
    """
    return pattern * (reference / total_counts(pattern))


def normalize_peak(pattern: Pattern) -> Float[Array, "det_y det_x"]:
    """Scale the pattern to a maximum of 1; NaN for an empty pattern.

    Args:
        pattern: ``(det_y, det_x)`` counts.

    Returns:
        ``(det_y, det_x)``, the pattern times one factor.

    Example:
        >>> import jax.numpy as jnp
        >>> normalize_peak(jnp.array([[1, 4]])).tolist()
        [[0.25, 1.0]]
    """
    return pattern / jnp.max(pattern).astype(float)


def check_ring(
    shape: tuple[int, int], center: tuple[float, float], inner: float, outer: float
) -> None:
    """Make sure that a ring has pixels and lies on the detector.

    Args:
        shape: ``(det_y, det_x)``.
        center: ``(y, x)`` in px.
        inner: Inner radius in px.
        outer: Outer radius in px.

    Raises:
        InputError: The inner radius is not the smaller one, or the ring leaves the detector.

    Example:
        >>> check_ring((64, 64), (32.0, 32.0), 8.0, 30.0)
        >>> check_ring((64, 64), (32.0, 32.0), 8.0, 8.0)
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: mask radii must satisfy 0 <= inner < outer, got 8 and 8 px
    """
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
