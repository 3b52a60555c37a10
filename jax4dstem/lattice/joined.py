"""One iteration of the lattice fit where disks touch or overlap: every pixel is owned by a sum of disks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.elimination import solve_scaled
from jax4dstem.lattice.model import FLOOR, TOUCHING, LatticeModel, lattice_moves
from jax4dstem.lattice.patches import Patches, reflection_positions
from jax4dstem.lattice.probe import SoftDisk
from jax4dstem.typing import Array, Float, Int, Scalar

AROUND = np.array(
    [(h, k) for h in (-1, 0, 1) for k in (-1, 0, 1)]
)  # cells whose disks reach into one
SHAPES = 4  # logarithms of radius and edge width, and two slopes of the background, see `slopes_of`


class JoinedEquations(NamedTuple):
    """Normal equations of what all disks of a pattern share, their heights eliminated.

    Attributes:
        information: Of (c_y, c_x, A_00, A_10, A_01, A_11), and of `SHAPES` where asked for.
        gradient: The same.
        change: Of the heights where nothing else changes, ``(n, 2)``.
        by_lattice: Change of the heights by the others, ``(n, 2, k)``.
        dispersion: Pearson's χ² per degree of freedom around each disk.
    """

    information: Float[Array, "k k"]
    gradient: Float[Array, " k"]
    change: Float[Array, "n 2"]
    by_lattice: Float[Array, "n 2 k"]
    dispersion: Float[Array, " n"]


class _Neighbors(NamedTuple):
    which: Int[Array, "n 9"]  # reflections around each, and itself; some number where there is none
    there: Float[Array, "n 9"]


def joined_equations(
    place: tuple[Array, Array],
    heights: Float[Array, "n 2"],
    patches: Patches,
    model: LatticeModel,
    edge: Scalar,
    prior: tuple[Array, Array],
    shapes: bool = False,
) -> JoinedEquations:
    r"""Of the counts in every cell, which expect the disks around it as well.

    .. math:: \lambda(r) = \sum_{k \in N(j)} a_k \, d(r - r_k) + b_j \, \beta(|r - c|)

    for a pixel in the cell of reflection j with its neighbors N(j), itself included. Disks that move with the lattice move in
    all cells that they reach, and heights of neighbors meet: they are eliminated together. Pixels under neighbors that the model
    does not have are left out.

    Args:
        place: Center and distortion.
        heights: Of disks and backgrounds.
        patches: Of the cells.
        model: Shared by the scan.
        edge: Width of the disks' edges in px.
        prior: Typical heights of the disks, and their precision, ``(n,)``.
        shapes: Whether `SHAPES` are asked for.
    """
    n = len(heights)
    near = _neighbors(model)
    positions = reflection_positions(*place, model)
    places = positions[:, None] + jnp.asarray(AROUND, float) @ model.distorted(place[1])
    rows = (patches.rows[:, None] - places[..., :1]).reshape(n * 9, -1)
    columns = (patches.columns[:, None] - places[..., 1:]).reshape(n * 9, -1)
    apart = jnp.hypot(rows[:, :, None], columns[:, None]).reshape(n, 9, -1)
    unknown = (near.there[..., None] == 0) & (apart < model.radius + TOUCHING)
    used = patches.used * ~jnp.any(unknown, axis=1)
    disk, by_y, by_x = (part.reshape(n, 9, -1) for part in model.probe.draw(rows, columns, edge))
    amount = heights[near.which, 0] * near.there
    expected = jnp.einsum("nk,nkp->np", amount, disk)
    expected = expected + heights[:, 1:] * patches.background + FLOOR
    residual = patches.counts - expected
    precision = used / model.detector.noise.variance(expected)
    slopes = jnp.stack([by_y, by_x], axis=2) * amount[..., None, None]
    shared = jnp.einsum("nkda,nkdp->nap", lattice_moves(model)[near.which], slopes)
    if shapes:
        by_shape = jnp.einsum("nk,snkp->nsp", amount, _by_shape(rows, columns, model, disk.shape))
        under = heights[:, 1:, None] * _by_background(place[0], positions, patches, model)
        shared = jnp.concatenate([shared, by_shape, under * patches.background[:, None]], axis=1)
    parts = [shared, disk * near.there[..., None], patches.background[:, None]]
    parts, k = jnp.concatenate(parts, axis=1), shared.shape[1]
    weighted = parts * (precision / model.dispersion[:, None])[:, None]
    gram = jnp.einsum("nip,njp->nij", weighted, parts)
    score = jnp.einsum("nip,np->ni", weighted, residual)
    number = jnp.concatenate([near.which, n + jnp.arange(n)[:, None]], axis=1)
    own = jnp.zeros((2 * n, 2 * n)).at[number[:, :, None], number[:, None]].add(gram[:, k:, k:])
    across = jnp.zeros((2 * n, k)).at[number].add(gram[:, k:, :k])
    own_score = jnp.zeros(2 * n).at[number].add(score[:, k:])
    typical, certainty = prior
    own = own.at[jnp.arange(n), jnp.arange(n)].add(certainty)
    own_score = own_score.at[:n].add(certainty * (typical - heights[:, 0]))
    solved = solve_scaled(own, jnp.concatenate([across, own_score[:, None]], axis=1))
    chi_squared = jnp.sum(residual**2 * precision, axis=1)
    return JoinedEquations(
        jnp.sum(gram[:, :k, :k], axis=0) - across.T @ solved[:, :k],
        jnp.sum(score[:, :k], axis=0) - across.T @ solved[:, k],
        solved[:, k].reshape(2, n).T,
        jnp.moveaxis(solved[:, :k].reshape(2, n, k), 0, 1),
        chi_squared / jnp.maximum(jnp.sum(used, axis=1) - 4, 1.0),
    )


def _by_shape(rows: Array, columns: Array, model: LatticeModel, shape: tuple) -> Array:
    """Derivatives of the disks by the logarithms of radius and edge width."""

    def draw(logarithms: Array) -> Array:
        radius, edge = jnp.exp(logarithms) * jnp.stack([model.radius, model.edge_width])
        return SoftDisk(radius, edge).draw(rows, columns).height.reshape(shape)

    return jnp.moveaxis(jax.jacfwd(draw)(jnp.zeros(2)), -1, 0)


def _by_background(center: Array, positions: Array, patches: Patches, model: LatticeModel) -> Array:
    """Derivatives of the logarithm of the background, relative to its value at the reflections, by its two slopes."""
    y, x = patches.rows - center[0], patches.columns - center[1]
    distance = jnp.hypot(y[:, :, None], x[:, None]).reshape(patches.counts.shape)
    here, there = (
        slopes_of(d, model.radius) for d in (jnp.hypot(*(positions - center).T), distance)
    )
    return jnp.moveaxis(there - here[..., None], 0, 1)


def slopes_of(distance: Array, radius: Scalar) -> Array:
    """What the logarithm of a background is made of besides its start: a power of the distance, and an exponential."""
    return jnp.stack([jnp.log1p(distance), distance / radius])


def _neighbors(model: LatticeModel) -> _Neighbors:
    wanted = model.indices[:, None] + jnp.asarray(AROUND)
    same = jnp.all(wanted[:, :, None] == model.indices, axis=-1)
    return _Neighbors(jnp.argmax(same, axis=-1), jnp.any(same, axis=-1).astype(float))
