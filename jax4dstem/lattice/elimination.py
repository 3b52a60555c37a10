"""Small positive definite systems, many at once, by unrolled elimination.

LAPACK is called once per matrix; for matrices of 2 x 2 to 7 x 7 the calls cost more than all of the arithmetic.
"""

import jax.numpy as jnp

from jax4dstem.typing import Array, Float


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
