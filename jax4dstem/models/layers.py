"""Encoders and decoders of one sample: dense and convolutional, built from a frozen description."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx

from jax4dstem.typing import Array, Float

Activation = Literal["relu", "gelu", "tanh", "linear"]
ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "tanh": jnp.tanh,
    "linear": lambda x: x,
}


@runtime_checkable
class Backbone(Protocol):
    """What an encoder and a decoder are made of; implementations are frozen dataclasses."""

    def encoder(self, shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """A module from one sample ``shape`` to ``(outputs,)``."""
        ...

    def decoder(self, latent: int, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module from a code ``(latent,)`` to one sample ``shape``."""
        ...


@dataclass(frozen=True)
class Dense:
    """Fully connected layers; the decoder mirrors the encoder. No hidden layer is a linear map.

    Attributes:
        hidden: Sizes of the encoder's hidden layers.
        activation: Between layers.

    Example:
        >>> Dense((8,)).encoder((3, 4), 2, nnx.Rngs(0))(jnp.ones((3, 4))).shape
        (2,)
    """

    hidden: tuple[int, ...] = (512,)
    activation: Activation = "relu"

    def encoder(self, shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """A module from one sample ``shape`` to ``(outputs,)``."""
        return Mlp((prod(shape), *self.hidden, outputs), (outputs,), self.activation, rngs)

    def decoder(self, latent: int, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module from a code ``(latent,)`` to one sample ``shape``."""
        return Mlp((latent, *self.hidden[::-1], prod(shape)), shape, self.activation, rngs)


@dataclass(frozen=True)
class Convolutional:
    """Convolutions of stride 2 for whole patterns or image patches, of any size; see `Dense`.

    Attributes:
        channels: Of the encoder's layers; each halves the image.
        activation: Between layers.

    Example:
        >>> Convolutional((2,)).decoder(3, (9, 14), nnx.Rngs(0))(jnp.ones(3)).shape
        (9, 14)
    """

    channels: tuple[int, ...] = (16, 32, 64)
    activation: Activation = "gelu"

    def encoder(self, shape: tuple[int, ...], outputs: int, rngs: nnx.Rngs) -> nnx.Module:
        """A module from one image ``shape`` to ``(outputs,)``."""
        return ConvEncoder(shape, self.channels, outputs, self.activation, rngs)

    def decoder(self, latent: int, shape: tuple[int, ...], rngs: nnx.Rngs) -> nnx.Module:
        """A module from a code ``(latent,)`` to one image ``shape``."""
        return ConvDecoder(latent, self.channels[::-1], shape, self.activation, rngs)


class Mlp(nnx.Module):
    """Linear layers with an activation between them, of one flattened sample."""

    def __init__(
        self, sizes: tuple[int, ...], shape: tuple[int, ...], activation: str, rngs: nnx.Rngs
    ):
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in pairwise(sizes)])
        self.shape = shape
        self.activation = activation

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Of one sample."""
        x = x.reshape(-1)
        for layer in list(self.layers)[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.layers[-1](x).reshape(self.shape)


class ConvEncoder(nnx.Module):
    """Convolutions of stride 2, then a linear layer."""

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...],
        outputs: int,
        activation: str,
        rngs: nnx.Rngs,
    ):
        self.convolutions = nnx.List(
            [nnx.Conv(a, b, (4, 4), strides=2, rngs=rngs) for a, b in pairwise((1, *channels))]
        )
        size = prod(_reduced(shape, len(channels)))
        self.head = nnx.Linear(size * channels[-1], outputs, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "height width"]) -> Float[Array, " outputs"]:
        """Of one image."""
        x = x[..., None]
        for layer in self.convolutions:
            x = ACTIVATIONS[self.activation](layer(x))
        return self.head(x.reshape(-1))


class ConvDecoder(nnx.Module):
    """A linear layer, then transposed convolutions of stride 2, cut to the image."""

    def __init__(
        self,
        latent: int,
        channels: tuple[int, ...],
        shape: tuple[int, ...],
        activation: str,
        rngs: nnx.Rngs,
    ):
        self.small = (*_reduced(shape, len(channels)), channels[0])
        self.head = nnx.Linear(latent, prod(self.small), rngs=rngs)
        self.convolutions = nnx.List(
            [
                nnx.ConvTranspose(a, b, (4, 4), strides=(2, 2), rngs=rngs)
                for a, b in pairwise((*channels, 1))
            ]
        )
        self.shape = shape
        self.activation = activation

    def __call__(self, code: Float[Array, " latent"]) -> Float[Array, "height width"]:
        """Of one code."""
        x = self.head(code).reshape(self.small)
        for layer in self.convolutions:
            x = layer(ACTIVATIONS[self.activation](x))
        return x[: self.shape[0], : self.shape[1], 0]


def _reduced(shape: tuple[int, ...], times: int) -> tuple[int, int]:
    """Size of an image after halving it so often, rounded up."""
    factor = 2**times
    return -(-shape[0] // factor), -(-shape[1] // factor)


def description(value: Any) -> Any:
    """A frozen description as plain data: its class's name and its fields."""
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: description(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"class": type(value).__name__, **fields}
    return list(value) if isinstance(value, tuple) else value
