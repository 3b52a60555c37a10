"""How a model is trained."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import optax

from jax4dstem.errors import InputError
from jax4dstem.typing import Array


@dataclass(frozen=True)
class Training:
    """Options of the training engine.

    Attributes:
        epochs: Passes over the data.
        batch_size: Samples per step; smaller data make one smaller batch.
        learning_rate: Largest learning rate of Adam.
        schedule: Cosine decay to zero, or constant.
        warmup: Share of the steps over which the learning rate grows.
        clip: Largest norm of the gradient.
        patience: Epochs without a smaller validation loss after which training stops and the best
            weights are taken; None trains to the end.
        precision: Of the forward pass; weights and losses stay in float32.
        seed: Of weights, order and noise.

    Example:
        >>> options = Training(learning_rate=0.01, warmup=0.1)
        >>> round(float(options.rate(jnp.asarray(0), jnp.asarray(100))), 4)  # a tenth of the warm-up
        0.001
    """

    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.05
    clip: float = 10.0
    patience: int | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("epochs", "batch_size", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup must lie in [0, 1), got {self.warmup}")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience must be at least 1 epoch, got {self.patience}")

    def optimizer(self) -> optax.GradientTransformation:
        """Clipped Adam; its steps are multiplied by `rate`."""
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.scale_by_adam())

    def rate(self, step: Array, steps: Array) -> Array:
        """Learning rate of one of so many steps.

        Not an optax schedule: the number of steps is an argument here, so that data of another length
        compile nothing anew.
        """
        warm = jnp.maximum(self.warmup * steps, 1.0)
        rate = self.learning_rate * jnp.minimum((step + 1) / warm, 1.0)
        if self.schedule == "cosine":
            done = jnp.clip((step - warm) / jnp.maximum(steps - warm, 1.0), 0.0, 1.0)
            rate = rate * 0.5 * (1 + jnp.cos(jnp.pi * done))
        return rate
