"""Soft-edged Bragg disks on a lattice: the differentiable model of what a crystal adds to a pattern."""

from math import ceil

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.probe import Probe, SoftDisk
from jax4dstem.typing import Array, Float, Int, Point, Scalar


def hexagonal_indices(shells: int) -> np.ndarray:
    """Reflections (h, k) with h² + hk + k² <= ``shells``, the direct beam first.

    The square of the length of h g1 + k g2 in units of g1², for g1 and g2 at 60 degrees.

    Args:
        shells: Largest squared length.

    Returns:
        ``(n, 2)`` int32, by length.

    Example:
        >>> hexagonal_indices(1).tolist()
        [[0, 0], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0]]
    """
    limit = int(2 * np.sqrt(shells / 3))
    h, k = np.mgrid[-limit : limit + 1, -limit : limit + 1].reshape(2, -1)
    length = h**2 + h * k + k**2
    order = np.argsort(length, kind="stable")
    order = order[length[order] <= shells]
    return np.stack([h[order], k[order]], axis=1).astype(np.int32)


def patch_side(radius: float, edge_width: float) -> int:
    """Side in px of a square that holds a soft-edged disk down to 5e-5 of its height.

    Args:
        radius: Of the disk in px.
        edge_width: Of its edge in px.

    Returns:
        An odd number of pixels.

    Example:
        >>> patch_side(4.0, 0.3)
        15
    """
    return 2 * ceil(radius + 10 * edge_width) + 1


def bragg_disks(
    shape: tuple[int, int],
    positions: Float[Array, "n 2"],
    intensities: Float[Array, " n"],
    radius: Scalar,
    edge_width: Scalar,
    patch: int,
    textures: Float[Array, "n modes"] | None = None,
) -> Float[Array, "det_y det_x"]:
    r"""Sum of soft-edged disks.

    .. math::
        I(r) = \sum_j \frac{I_j}{A} \,
            \frac{1}{1 + \exp\left((|r - r_j| - R) / w\right)}, \qquad
        A = -2 \pi w^2 \operatorname{Li}_2\left(-e^{R/w}\right) ,

    where A is the area of one disk, so that ``intensities`` are sums over whole disks. Each disk is
    drawn in a patch of its own, which is what makes this fast; what leaves the detector is dropped.

    Args:
        shape: ``(det_y, det_x)``.
        positions: Disk centers (y, x) in px.
        intensities: Sum of each disk.
        radius: R in px.
        edge_width: w in px; 0.3 is about the blur of a sharp disk by square pixels.
        patch: Side of the patches in px, static; see `patch_side`.
        textures: Contrast inside the disks: coefficients of `disk_textures`; None for flat disks.

    Returns:
        The pattern.

    Example:
        >>> import jax.numpy as jnp
        >>> one = bragg_disks((32, 32), jnp.array([[15.5, 16.2]]), jnp.array([100.0]), 4.0, 0.3, 15)
        >>> round(float(one.sum()))
        100

    Reference: ours.
    """
    return draw_disks(shape, positions, intensities, SoftDisk(radius, edge_width), patch, textures)


def draw_disks(
    shape: tuple[int, int],
    positions: Float[Array, "n 2"],
    intensities: Float[Array, " n"],
    probe: Probe,
    patch: int,
    textures: Float[Array, "n modes"] | None = None,
) -> Float[Array, "det_y det_x"]:
    """Sum of disks of a probe of any kind; arguments as of `bragg_disks`."""
    offsets = jnp.arange(patch)
    corners = jax.lax.stop_gradient(jnp.floor(positions + 0.5)).astype(int) - patch // 2
    rows, columns = corners[:, :1] + offsets, corners[:, 1:] + offsets
    dy, dx = rows - positions[:, :1], columns - positions[:, 1:]
    disks = probe.draw(dy, dx).height
    if textures is not None:
        radius = probe.radius
        modes = disk_textures(dy[:, :, None] / radius, dx[:, None, :] / radius)
        contrast = [textures[:, m, None, None] * modes[m] for m in range(textures.shape[1])]
        disks = disks * (1 + sum(contrast, jnp.zeros(())))
    heights = intensities / probe.area
    return (
        jnp.zeros(shape, disks.dtype)
        .at[rows[:, :, None], columns[:, None, :]]
        .add(heights[:, None, None] * disks, mode="drop", wrap_negative_indices=False)
    )


def disk_textures(y: Array, x: Array) -> list[Array]:
    """Slopes and curvatures over a disk of radius 1, of mean square 1 and zero mean."""
    square = y**2 + x**2
    return [2 * y, 2 * x, 3**0.5 * (2 * square - 1), 6**0.5 * (y**2 - x**2), 24**0.5 * y * x]


def lattice_positions(
    center: Point, vectors: Float[Array, "*lattices 2 2"], indices: Int[Array, "n 2"]
) -> Float[Array, "*lattices n 2"]:
    """Reflections ``center + h g1 + k g2`` on the detector, (y, x) in px.

    Args:
        center: Of the direct beam, (y, x) in px.
        vectors: g1, g2 as rows (y, x) in px, ``(..., 2, 2)``.
        indices: h, k as rows, ``(n, 2)``.

    Returns:
        ``(..., n, 2)``.

    Example:
        >>> import jax.numpy as jnp
        >>> g = jnp.array([[0.0, 10.0], [5.0, 0.0]])
        >>> lattice_positions(jnp.array([32.0, 31.0]), g, jnp.array([[1, -1]])).tolist()
        [[27.0, 41.0]]
    """
    return center + indices @ vectors
