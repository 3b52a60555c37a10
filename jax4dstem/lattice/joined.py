"""One iteration of the lattice fit where disks touch or overlap: every pixel is owned by a sum of disks."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.lattice.model import FLOOR, LatticeModel
from jax4dstem.lattice.patches import Patches, reflection_positions
from jax4dstem.typing import Array, Float, Int, Scalar

TOUCHING = 1.0  # px between the edge of a disk and of its cell, below which disks are fitted together: what a blurred edge reaches
AROUND = np.array([(h, k) for h in (-1, 0, 1) for k in (-1, 0, 1)])  # cells whose disks reach into one
RIDGE = 1e-6  # of a scaled information: under disks that leave no gap, background and disks are told apart by the prior alone


def overlapping(model: LatticeModel) -> bool:
    """Whether disks of the model reach into one another's cells, in whatever orientation."""
    a, b = model.tightest
    spacing = min(np.linalg.norm(v) for v in (a, b, a + b, a - b))
    return bool(spacing < 2 * (float(model.radius) + TOUCHING))


class JoinedEquations(NamedTuple):
    """Normal equations of the lattice, all heights eliminated.

    Attributes:
        information: Of (c_y, c_x, A_00, A_10, A_01, A_11).
        gradient: The same.
        change: Of the heights at the same lattice, ``(n, 2)``.
        by_lattice: Change of the heights by the lattice, ``(n, 2, 6)``.
        dispersion: Pearson's χ² per degree of freedom around each disk.
    """

    information: Float[Array, "6 6"]
    gradient: Float[Array, "6"]
    change: Float[Array, "n 2"]
    by_lattice: Float[Array, "n 2 6"]
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
    moves: Float[Array, "n 2 6"],
) -> JoinedEquations:
    r"""Of the counts in every cell, which expect the disks around it as well.

    .. math:: \lambda(r) = \sum_{k \in N(j)} a_k \, d(r - r_k) + b_j \, \beta(|r - c|)

    for a pixel in the cell of reflection j with its neighbors N(j), itself included. Disks that move with the lattice move in
    all cells that they reach, and heights of neighbors meet: they are eliminated together.

    Args:
        place: Center and distortion.
        heights: Of disks and backgrounds.
        patches: Of the cells.
        model: Shared by the scan.
        edge: Width of the disks' edges in px.
        prior: Typical heights of the disks, and their precision, ``(n,)``.
        moves: Derivative of the reflections' positions by center and distortion.
    """
    n = len(heights)
    near = _neighbors(model)
    positions = reflection_positions(*place, model)
    places = positions[:, None] + jnp.asarray(AROUND, float) @ model.distorted(place[1])
    rows = (patches.rows[:, None] - places[..., :1]).reshape(n * 9, -1)
    columns = (patches.columns[:, None] - places[..., 1:]).reshape(n * 9, -1)
    disk, by_y, by_x = (part.reshape(n, 9, -1) for part in model.probe.draw(rows, columns, edge))
    amount = heights[near.which, 0] * near.there
    expected = jnp.einsum("nk,nkp->np", amount, disk)
    expected = expected + heights[:, 1:] * patches.background + FLOOR
    residual = patches.counts - expected
    precision = patches.used / model.detector.noise.variance(expected)
    slopes = jnp.stack([by_y, by_x], axis=2) * amount[..., None, None]
    by_lattice = jnp.einsum("nkda,nkdp->nap", moves[near.which], slopes)
    disk = disk * near.there[..., None]
    parts = jnp.concatenate([by_lattice, disk, patches.background[:, None]], axis=1)
    weighted = parts * (precision / model.dispersion[:, None])[:, None]
    gram = jnp.einsum("nip,njp->nij", weighted, parts)
    score = jnp.einsum("nip,np->ni", weighted, residual)
    number = jnp.concatenate([near.which, n + jnp.arange(n)[:, None]], axis=1)
    own = jnp.zeros((2 * n, 2 * n)).at[number[:, :, None], number[:, None, :]].add(gram[:, 6:, 6:])
    across = jnp.zeros((2 * n, 6)).at[number].add(gram[:, 6:, :6])
    own_score = jnp.zeros(2 * n).at[number].add(score[:, 6:])
    typical, certainty = prior
    own = own.at[jnp.arange(n), jnp.arange(n)].add(certainty)
    own_score = own_score.at[:n].add(certainty * (typical - heights[:, 0]))
    width = jnp.sqrt(jnp.maximum(jnp.diagonal(own), 1e-12))
    scaled = own / width[:, None] / width + RIDGE * jnp.eye(2 * n)
    right = jnp.concatenate([across, own_score[:, None]], axis=1) / width[:, None]
    solved = jnp.linalg.solve(scaled, right) / width[:, None]
    counted = jnp.sum(patches.used, axis=1)
    chi_squared = jnp.sum(residual**2 * precision, axis=1)
    return JoinedEquations(
        jnp.sum(gram[:, :6, :6], axis=0) - across.T @ solved[:, :6],
        jnp.sum(score[:, :6], axis=0) - across.T @ solved[:, 6],
        solved[:, 6].reshape(2, n).T,
        jnp.moveaxis(solved[:, :6].reshape(2, n, 6), 0, 1),
        chi_squared / jnp.maximum(counted - 4, 1.0),
    )


def _neighbors(model: LatticeModel) -> _Neighbors:
    wanted = model.indices[:, None] + jnp.asarray(AROUND)
    same = jnp.all(wanted[:, :, None] == model.indices, axis=-1)
    return _Neighbors(jnp.argmax(same, axis=-1), jnp.any(same, axis=-1).astype(float))
