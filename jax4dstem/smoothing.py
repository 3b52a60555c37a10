"""Gaussian blur of patterns, as two matrix products."""

import jax.numpy as jnp

from jax4dstem.typing import Array, Float, Pattern, Scalar


def smooth(pattern: Pattern, sigma: Scalar) -> Float[Array, "det_y det_x"]:
    """Gaussian blur of standard deviation ``sigma`` px.

    Example:
        >>> round(float(smooth(jnp.zeros((9, 9)).at[4, 4].set(1.0), 1.0).sum()), 2)
        1.0
    """
    rows, columns = (gaussian_weights(jnp.arange(size), sigma) for size in pattern.shape)
    rows, columns = (band / jnp.sum(band, axis=1, keepdims=True) for band in (rows, columns))
    return rows @ pattern.astype(float) @ columns.T


def gaussian_weights(positions: Array, sigma: Scalar) -> Float[Array, "n n"]:
    """Gaussians of standard deviation ``sigma`` and height 1 around every position, a row each."""
    return jnp.exp(-0.5 * ((positions[:, None] - positions[None, :]) / sigma) ** 2)
