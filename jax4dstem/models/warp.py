"""Differentiable affine warp of an image: one resampling for a whole chain of transformations."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp

from jax4dstem.coordinates import detector_grid
from jax4dstem.typing import Array, Float

Order = Literal[1, 3]


def affine_warp(
    image: Float[Array, "height width"],
    matrix: Float[Array, "2 2"],
    center: Float[Array, "2"],
    shift: Float[Array, "2"] | float = 0.0,
    order: Order = 1,
) -> Float[Array, "height width"]:
    r"""Move what lies at c + u to c + M u + t: rotation, scale, shear and translation at once.

    .. math:: J(r) = I\bigl(c + M^{-1} (r - c - t)\bigr)

    Every pixel of the result is read once, so that transformations composed by multiplying their matrices blur no
    more than one does. Intensities are kept, not areas.

    Args:
        image: I; zero outside.
        matrix: M, on column vectors (y, x), such as `coordinates.deformation` gives. Its inverse undoes the warp exactly, up to interpolation.
        center: c, (y, x) in px; not rounded.
        shift: t, (y, x) in px.
        order: 1 is bilinear, 3 bicubic (Catmull-Rom: exact for quadratics).

    Returns:
        J, of the shape of the image.

    Example:
        >>> import jax.numpy as jnp
        >>> spot = jnp.zeros((9, 9)).at[4, 6].set(1.0)
        >>> quarter = jnp.array([[0.0, -1.0], [1.0, 0.0]])
        >>> jnp.argwhere(affine_warp(spot, quarter, jnp.array([4.0, 4.0])) > 0.5).tolist()
        [[2, 4]]

    Reference: Jaderberg et al., arXiv:1506.02025 (2015); Keys, IEEE Trans. ASSP 29, 1153 (1981).
    """
    y, x = detector_grid(image.shape)
    offset = jnp.broadcast_arrays(y - center[0], x - center[1])
    target = jnp.stack(offset, axis=-1) - shift
    source = target @ jnp.linalg.inv(matrix).T + center
    return _interpolate(image, source, _linear if order == 1 else _catmull_rom)


def inverse_warp(
    image: Float[Array, "height width"],
    matrix: Float[Array, "2 2"],
    center: Float[Array, "2"],
    shift: Float[Array, "2"] | float = 0.0,
    order: Order = 1,
) -> Float[Array, "height width"]:
    """Undo `affine_warp` with the same arguments.

    Args:
        image: ``(height, width)``.
        matrix: ``(2, 2)``, on column vectors (y, x).
        center: ``(y, x)`` in px.
        shift: ``(y, x)`` in px.
        order: 1 is bilinear, 3 bicubic.

    Returns:
        ``(height, width)``.

    Example:
        >>> spot = jnp.zeros((9, 9)).at[4, 6].set(1.0)
        >>> quarter, center = jnp.array([[0.0, -1.0], [1.0, 0.0]]), jnp.array([4.0, 4.0])
        >>> there = affine_warp(spot, quarter, center)
        >>> jnp.argwhere(inverse_warp(there, quarter, center) > 0.5).tolist()
        [[4, 6]]
    """
    inverse = jnp.linalg.inv(matrix)
    return affine_warp(image, inverse, center, -inverse @ jnp.broadcast_to(shift, (2,)), order)


def _interpolate(image: Array, source: Array, kernel: Callable[[Array], list[Array]]) -> Array:
    """Separable interpolation at points (y, x); zero outside of the image."""
    lower = jnp.floor(source)
    by_row, by_column = (kernel(source[..., axis] - lower[..., axis]) for axis in (0, 1))
    # A rim of zeros as wide as the kernel, and points beyond it moved onto it: no test at every pixel.
    rim = len(by_row)
    padded = jnp.pad(image, rim)
    shape = jnp.array(image.shape)
    first = jnp.clip(lower, -rim // 2 - 1, shape + rim // 2 - 1).astype(int) + rim - rim // 2 + 1
    flat, width = padded.ravel(), padded.shape[1]
    corner = first[..., 0] * width + first[..., 1]
    total = jnp.zeros(source.shape[:-1], image.dtype)
    for i, of_row in enumerate(by_row):
        for j, of_column in enumerate(by_column):
            pixel = flat.at[corner + i * width + j].get(mode="promise_in_bounds")
            total = total + of_row * of_column * pixel
    return total


def _linear(t: Array) -> list[Array]:
    """Weights of the two neighbors at fraction t behind the first."""
    return [1 - t, t]


def _catmull_rom(t: Array) -> list[Array]:
    """Weights of the four neighbors at fraction t behind the second."""
    return [
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    ]
