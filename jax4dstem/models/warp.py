"""Differentiable affine warp of an image: one resampling for a whole chain of transformations."""

from typing import Literal

import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

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
    if order == 1:
        return map_coordinates(image, [source[..., 0], source[..., 1]], order=1)
    return _bicubic(image, source)


def inverse_warp(
    image: Float[Array, "height width"],
    matrix: Float[Array, "2 2"],
    center: Float[Array, "2"],
    shift: Float[Array, "2"] | float = 0.0,
    order: Order = 1,
) -> Float[Array, "height width"]:
    """Undo `affine_warp` with the same arguments."""
    inverse = jnp.linalg.inv(matrix)
    return affine_warp(image, inverse, center, -inverse @ jnp.broadcast_to(shift, (2,)), order)


def _bicubic(image: Array, source: Array) -> Array:
    lower = jnp.floor(source)
    weights = [_catmull_rom(source[..., axis] - lower[..., axis]) for axis in (0, 1)]
    corner = lower.astype(int)
    total = jnp.zeros(source.shape[:-1], image.dtype)
    for i in range(4):
        row = jnp.zeros(source.shape[:-1], image.dtype)
        for j in range(4):
            y, x = corner[..., 0] + i - 1, corner[..., 1] + j - 1
            value = image.at[y, x].get(mode="fill", fill_value=0.0, wrap_negative_indices=False)
            row = row + weights[1][j] * value
        total = total + weights[0][i] * row
    return total


def _catmull_rom(t: Array) -> list[Array]:
    """Weights of the four neighbors at fraction t behind the second."""
    return [
        0.5 * (-t + 2 * t**2 - t**3),
        0.5 * (2 - 5 * t**2 + 3 * t**3),
        0.5 * (t + 4 * t**2 - 3 * t**3),
        0.5 * (-(t**2) + t**3),
    ]
