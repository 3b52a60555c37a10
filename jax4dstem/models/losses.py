"""Losses of one sample. Each states its reduction: the weight of one against another depends on it."""

import jax.numpy as jnp

from jax4dstem.noise import COUNTED, Noise
from jax4dstem.typing import Array, Float


def mean_squared_error(x: Float[Array, "..."], target: Float[Array, "..."]) -> Float[Array, ""]:
    r"""Mean over the sample's elements: :math:`\frac1p \sum_i (x_i - t_i)^2`.

    Args:
        x: A sample, any shape.
        target: The same shape.

    Returns:
        A scalar, in the square of the sample's unit.

    Example:
        >>> float(mean_squared_error(jnp.zeros(4), jnp.full(4, 3.0)))
        9.0
    """
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

    Returns:
        A scalar, not negative; 0 where the rate is the counts.

    Example:
        >>> float(counts_deviance(jnp.ones(4), jnp.zeros(4)))
        1.0

    Reference: McCullagh and Nelder, Generalized Linear Models, 2nd ed., Chapman and Hall (1989).
    """
    return 0.5 * jnp.mean(noise.deviance(counts, jnp.maximum(rate, 1e-6)))


def kl_to_standard_normal(
    mean: Float[Array, " latent"], log_variance: Float[Array, " latent"]
) -> Float[Array, ""]:
    r"""Kullback-Leibler divergence of N(μ, σ²) from N(0, 1), **sum** over the code.

    .. math:: \frac12 \sum_j \left(\mu_j^2 + \sigma_j^2 - 1 - \ln \sigma_j^2\right)

    Args:
        mean: μ, ``(latent,)``.
        log_variance: ln σ², ``(latent,)``.

    Returns:
        A scalar in nats.

    Example:
        >>> float(kl_to_standard_normal(jnp.array([1.0, 2.0]), jnp.zeros(2)))
        2.5

    Reference: Kingma and Welling, arXiv:1312.6114 (2013), appendix B.
    """
    return 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance)


def l1(code: Float[Array, " latent"]) -> Float[Array, ""]:
    """Mean absolute value of a code.

    Args:
        code: ``(latent,)``.

    Returns:
        A scalar.

    Example:
        >>> float(l1(jnp.array([1.0, -3.0])))
        2.0
    """
    return jnp.mean(jnp.abs(code))
