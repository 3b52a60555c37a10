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
