"""Positive definite systems inside of pattern functions, by elimination.

LAPACK is called once per matrix; for matrices of 2 x 2 to 7 x 7 the calls cost more than all of the arithmetic, and calls for
larger ones, made by several forced devices of a CPU at once, have waited for one another for ever.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax4dstem.typing import Array, Float

SMALLEST = 1e-12  # pivot: of scaled matrices with a ridge, far below any
RIDGE = 1e-6  # of scaled informations: what the prior alone tells apart, as disks that leave no gap from their background, stays solvable


def solve_positive(matrix: Float[Array, "k k"], right: Float[Array, "k m"]) -> Float[Array, "k m"]:
    """Solution of M X = B by Gauss-Jordan elimination, a loop over the columns.

    Args:
        matrix: Symmetric positive definite M.
        right: B.

    Example:
        >>> solve_positive(jnp.array([[2.0, 1.0], [1.0, 2.0]]), jnp.array([[3.0], [3.0]])).round(4).tolist()
        [[1.0], [1.0]]
    """
    size = len(matrix)

    def eliminate(i: Any, table: Array) -> Array:
        row = table[i] / jnp.maximum(table[i, i], SMALLEST)
        others = table[:, i].at[i].set(0.0)
        return (table - others[:, None] * row).at[i].set(row)

    table = jnp.concatenate([matrix, right], axis=1)
    return jax.lax.fori_loop(0, size, eliminate, table)[:, size:]


def solve_scaled(matrix: Float[Array, "k k"], right: Float[Array, "k m"]) -> Float[Array, "k m"]:
    """Solution of M X = B in parameters scaled to a unit diagonal, with a ridge: a direction without information stays where it is.

    Args:
        matrix: Symmetric positive semidefinite M, an information.
        right: B.

    Example:
        >>> solve_scaled(jnp.diag(jnp.array([4.0, 0.0])), jnp.array([[2.0], [0.0]])).round(4).tolist()
        [[0.5], [0.0]]
    """
    width = jnp.sqrt(jnp.maximum(jnp.diagonal(matrix), 1e-12))
    scaled = matrix / width[:, None] / width + RIDGE * jnp.eye(len(width))
    return solve_positive(scaled, right / width[:, None]) / width[:, None]


def solve_small(
    matrices: Float[Array, "n k k"], right: Float[Array, "n k m"]
) -> tuple[Float[Array, "n k m"], Float[Array, " n"]]:
    """Solutions of M X = B, and the logarithms of the determinants, by Gauss-Jordan elimination.

    Args:
        matrices: Symmetric positive definite M.
        right: B.

    Returns:
        X, zero along directions without a positive pivot, and ln det M over the others.

    Example:
        >>> solution, log_determinant = solve_small(2 * jnp.eye(2)[None], jnp.ones((1, 2, 1)))
        >>> solution[0, :, 0].tolist(), round(float(jnp.exp(log_determinant[0])), 3)
        ([0.5, 0.5], 4.0)
    """
    size = matrices.shape[-1]
    rows = [jnp.concatenate([matrices[:, i], right[:, i]], axis=1) for i in range(size)]
    logarithm = jnp.zeros(len(matrices))
    for i in range(size):
        pivot = rows[i][:, i : i + 1]
        usable = jnp.where(pivot > 0, pivot, 1.0)
        logarithm = logarithm + jnp.log(usable[:, 0])
        rows[i] = jnp.where(pivot > 0, rows[i] / usable, 0.0)
        for j in range(size):
            if j != i:
                rows[j] = rows[j] - rows[j][:, i : i + 1] * rows[i]
    return jnp.stack(rows, axis=1)[:, :, size:], logarithm
