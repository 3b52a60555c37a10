"""Autoencoders of one sample: deterministic and variational."""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax4dstem.models.layers import Backbone, Dense
from jax4dstem.typing import Array, Float


class AutoEncoder(nnx.Module):
    """An encoder and a decoder around a code z = e(x), reconstruction d(z).

    Batches are mapped over with `jax.vmap`.

    Example:
        >>> model = AutoEncoderSpec((6,), 2).build(0)
        >>> model.encode(jnp.ones(6)).shape, model.decode(jnp.ones(2)).shape
        ((2,), (6,))
    """

    def __init__(self, encoder: nnx.Module, decoder: nnx.Module):
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Float[Array, "..."]) -> Float[Array, " latent"]:
        """The code of one sample."""
        return self.encoder(x)  # type: ignore[operator]

    def decode(self, code: Float[Array, " latent"]) -> Float[Array, "..."]:
        """The sample of one code."""
        return self.decoder(code)  # type: ignore[operator]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The reconstruction of one sample."""
        return self.decode(self.encode(x))


class VariationalAutoEncoder(AutoEncoder):
    r"""An autoencoder whose code has a distribution :math:`q(z|x) = N(\mu(x), \sigma^2(x))`.

    The encoder returns the mean and :math:`\ln \sigma^2`; the code of a sample is the mean.

    Example:
        >>> model = VariationalSpec((6,), 2).build(0)
        >>> mean, log_variance = model.posterior(jnp.ones(6))
        >>> model.sample(jnp.ones(6), jax.random.key(0)).shape == mean.shape == log_variance.shape
        True

    Reference: Kingma and Welling, arXiv:1312.6114 (2013).
    """

    def posterior(
        self, x: Float[Array, "..."]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and logarithm of the variance of one sample's code."""
        mean, log_variance = jnp.split(self.encoder(x), 2)  # type: ignore[operator]
        # Beyond e^±10 nothing changes but the risk of overflow.
        return mean, 10 * jnp.tanh(log_variance / 10)

    def encode(self, x: Float[Array, "..."]) -> Float[Array, " latent"]:
        """Mean code of one sample."""
        return self.posterior(x)[0]

    def sample(self, x: Float[Array, "..."], key: jax.Array) -> Float[Array, " latent"]:
        """A code drawn from the posterior of one sample."""
        mean, log_variance = self.posterior(x)
        noise = jax.random.normal(key, mean.shape, mean.dtype)
        return mean + jnp.exp(log_variance / 2) * noise


@dataclass(frozen=True)
class AutoEncoderSpec:
    """What an `AutoEncoder` is made of.

    Attributes:
        shape: Of one sample: ``(features,)`` or ``(height, width)``.
        latent: Size of the code.
        backbone: Kind and sizes of the layers.

    Example:
        >>> AutoEncoderSpec((30,), 2).build(0)(jnp.zeros(30)).shape
        (30,)
    """

    shape: tuple[int, ...]
    latent: int
    backbone: Backbone = field(default_factory=Dense)

    def build(self, seed: int) -> AutoEncoder:
        """The model with weights drawn with a seed."""
        rngs = nnx.Rngs(seed)
        encoder = self.backbone.encoder(self.shape, self.latent, rngs)
        return AutoEncoder(encoder, self.backbone.decoder(self.latent, self.shape, rngs))


@dataclass(frozen=True)
class VariationalSpec:
    """What a `VariationalAutoEncoder` is made of; see `AutoEncoderSpec`.

    Attributes:
        shape: Of a sample.
        latent: Size of the code.
        backbone: Of encoder and decoder.

    Example:
        >>> VariationalSpec((6,), 2, Dense((4,))).build(0).encode(jnp.ones(6)).shape
        (2,)
    """

    shape: tuple[int, ...]
    latent: int
    backbone: Backbone = field(default_factory=Dense)

    def build(self, seed: int) -> VariationalAutoEncoder:
        """The model with weights drawn with a seed."""
        rngs = nnx.Rngs(seed)
        encoder = self.backbone.encoder(self.shape, 2 * self.latent, rngs)
        decoder = self.backbone.decoder(self.latent, self.shape, rngs)
        return VariationalAutoEncoder(encoder, decoder)


def split(model: nnx.Module) -> tuple[Any, Any]:
    """A model as its static structure, which is hashable, and its weights, a pytree.

    Args:
        model: A Flax module.

    Returns:
        Structure and weights (nested dictionaries of arrays), which `join` puts together again.

    Example:
        >>> structure, weights = split(AutoEncoderSpec((4,), 2).build(0))
        >>> join(structure, weights).encode(jnp.ones(4)).shape
        (2,)
    """
    structure, weights = nnx.split(model)
    return structure, nnx.to_pure_dict(weights)


def join(structure: Any, weights: Any) -> Any:
    """The model of a structure and weights; see `split`.

    Args:
        structure: From `split`.
        weights: From `split`, or trained since.

    Returns:
        The Flax module.

    Example:
        >>> parts = split(AutoEncoderSpec((4,), 2).build(0))
        >>> join(*parts).decode(jnp.ones(2)).shape
        (4,)
    """
    return nnx.merge(structure, weights)
