"""What training minimizes: pure functions of (model, sample, key, progress) that return named terms.

A sample is ``(input, target)``; the total loss is the sum of the terms, which carry their weights.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jax4dstem.models.autoencoder import AutoEncoder, VariationalAutoEncoder
from jax4dstem.models.losses import (
    counts_deviance,
    kl_to_standard_normal,
    l1,
    mean_squared_error,
)
from jax4dstem.noise import ElectronNoise
from jax4dstem.typing import Array, Float

LossName = Literal["mse", "poisson"]
LOSSES = {"mse": mean_squared_error, "poisson": counts_deviance}
Terms = dict[str, Any]


@runtime_checkable
class Corruption(Protocol):
    """Noise on an input, drawn anew in every step; implementations are frozen dataclasses."""

    def __call__(self, x: Float[Array, "..."], key: jax.Array) -> Float[Array, "..."]:
        """The corrupted sample."""
        ...


@dataclass(frozen=True)
class CountingNoise:
    """Shot noise of x times ``electrons``, given back in units of x; then Gaussian noise of ``sigma``.

    Attributes:
        electrons: Per unit of x.
        sigma: Standard deviation of the Gaussian noise, in units of x.

    Example:
        >>> noisy = CountingNoise(50.0)(jnp.ones(10_000), jax.random.key(0))
        >>> round(float(noisy.var()) * 50, 1)
        1.0
    """

    electrons: float
    sigma: float = 0.0

    def __call__(self, x: Float[Array, "..."], key: jax.Array) -> Float[Array, "..."]:
        """The corrupted sample."""
        return ElectronNoise(1 / self.electrons, self.sigma).draw(key, x)


@dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise of standard deviation ``sigma``.

    Attributes:
        sigma: In units of the sample.

    Example:
        >>> noisy = GaussianNoise(2.0)(jnp.zeros(10_000), jax.random.key(0))
        >>> round(float(noisy.std()))
        2
    """

    sigma: float

    def __call__(self, x: Float[Array, "..."], key: jax.Array) -> Float[Array, "..."]:
        """The corrupted sample."""
        return x + self.sigma * jax.random.normal(key, x.shape, x.dtype)


@dataclass(frozen=True)
class Reconstruction:
    """Reconstruct the target from the input.

    Attributes:
        loss: Mean squared error or Poisson deviance, both means over the sample's elements.
        corruption: Noise on the input: a denoising autoencoder.
        sparsity: Weight of the mean absolute code.

    Example:
        >>> from jax4dstem.models import AutoEncoderSpec
        >>> model, sample = AutoEncoderSpec((4,), 2).build(0), (jnp.ones(4), jnp.ones(4))
        >>> terms = Reconstruction(sparsity=0.1)(model, sample, jax.random.key(0), jnp.asarray(0.5))
        >>> sorted(terms)
        ['reconstruction', 'sparsity']
    """

    loss: LossName = "mse"
    corruption: Corruption | None = None
    sparsity: float = 0.0

    def __call__(
        self, model: AutoEncoder, sample: tuple[Array, Array], key: jax.Array, progress: Array
    ) -> Terms:
        """Weighted terms of one sample."""
        x, target = sample
        x = x if self.corruption is None else self.corruption(x, key)
        code = model.encode(x)
        terms = {"reconstruction": LOSSES[self.loss](model.decode(code), target)}
        if self.sparsity:
            terms["sparsity"] = self.sparsity * l1(code)
        return terms


@dataclass(frozen=True)
class EvidenceBound:
    """The negative evidence lower bound of a variational autoencoder.

    The reconstruction is a mean over the elements and the divergence a sum over the code, so
    ``kl_weight`` 1e-3 for p features stands for β = p/2 · 1e-3 with unit noise.

    Attributes:
        loss: Mean squared error or Poisson deviance.
        kl_weight: Final weight of the divergence.
        warmup: Share of the training over which the weight grows from 0.
        corruption: Noise on the input.

    Example:
        >>> from jax4dstem.models import VariationalSpec
        >>> model, sample = VariationalSpec((4,), 2).build(0), (jnp.ones(4), jnp.ones(4))
        >>> sorted(EvidenceBound()(model, sample, jax.random.key(0), jnp.asarray(0.5)))
        ['kl', 'reconstruction']
    """

    loss: LossName = "mse"
    kl_weight: float = 1e-3
    warmup: float = 0.0
    corruption: Corruption | None = None

    def __call__(
        self,
        model: VariationalAutoEncoder,
        sample: tuple[Array, Array],
        key: jax.Array,
        progress: Array,
    ) -> Terms:
        """Weighted terms of one sample."""
        x, target = sample
        draw, corrupt = jax.random.split(key)
        x = x if self.corruption is None else self.corruption(x, corrupt)
        mean, log_variance = model.posterior(x)
        code = mean + jnp.exp(log_variance / 2) * jax.random.normal(draw, mean.shape, mean.dtype)
        weight = self.kl_weight * jnp.minimum(progress / max(self.warmup, 1e-9), 1.0)
        return {
            "reconstruction": LOSSES[self.loss](model.decode(code), target),
            "kl": weight * kl_to_standard_normal(mean, log_variance),
        }
