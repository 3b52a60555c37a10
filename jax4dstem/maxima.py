"""Maxima between samples."""

import jax.numpy as jnp

from jax4dstem.typing import Array, Float, Scalar


def parabola_vertex(
    before: Float[Array, "..."] | Scalar,
    at: Float[Array, "..."] | Scalar,
    after: Float[Array, "..."] | Scalar,
) -> Float[Array, "..."]:
    r"""Maximum of the parabola through three samples, relative to the middle one.

    .. math:: x = \frac{a - c}{2 (a - 2 b + c)}

    Args:
        before: a, sample at -1.
        at: b, sample at 0.
        after: c, sample at 1.

    Returns:
        x; 0 where the parabola has no maximum. Where b is the largest of the three, |x| <= 1/2.

    Example:
        >>> float(parabola_vertex(jnp.array(1.0), jnp.array(3.0), jnp.array(2.0)))
        0.1666666716337204
    """
    bend = before - 2 * at + after
    return jnp.where(bend < 0, 0.5 * (before - after) / jnp.where(bend < 0, bend, 1.0), 0.0)
