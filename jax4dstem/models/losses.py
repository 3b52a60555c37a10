"""Losses of one sample. Each states its reduction: the weight of one against another depends on it."""

import jax.numpy as jnp

from jax4dstem.noise import COUNTED, Noise
from jax4dstem.typing import Array, Float


def mean_squared_error(x: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Mean over the sample's elements: :math:`\frac1p \sum_i (x_i - t_i)^2`."""
    return jnp.mean((x - target) ** 2)


def counts_deviance(
    rate: Float[Array, "..."], counts: Float[Array, "..."], noise: Noise = COUNTED
) -> Float[Array, ""]:
    r"""Negative log-likelihood of counts less that of a perfect fit, **mean** over the elements.

    .. math:: \frac1p \sum_i \left[\lambda_i - k_i + k_i \ln (k_i / \lambda_i)\right]

    for counted electrons; half the noise model's deviance.

    Args:
        rate: Expected counts; raised to 1e-6.
        counts: Counts, not negative.
        noise: How they scatter.
    """
    return 0.5 * jnp.mean(noise.deviance(counts, jnp.maximum(rate, 1e-6)))


def kl_to_standard_normal(
    mean: Float[Array, " latent"], log_variance: Float[Array, " latent"]
) -> Float[Array, ""]:
    r"""Kullback-Leibler divergence of N(μ, σ²) from N(0, 1), **sum** over the code.

    .. math:: \frac12 \sum_j \left(\mu_j^2 + \sigma_j^2 - 1 - \ln \sigma_j^2\right)

    Reference: Kingma and Welling, arXiv:1312.6114 (2013), appendix B.
    """
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)


def l1(code: Float[Array, " latent"]) -> Float[Array, ""]:
    """Mean absolute value of a code."""
    return jnp.mean(jnp.abs(code))
