"""How a model is trained."""

from dataclasses import dataclass
from typing import Literal

import optax

from jax4dstem.errors import InputError


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

    def optimizer(self, steps: int) -> optax.GradientTransformation:
        """Clipped Adam on the schedule over so many steps."""
        warm = round(self.warmup * steps)
        if self.schedule == "cosine":
            after = optax.cosine_decay_schedule(self.learning_rate, max(steps - warm, 1))
        else:
            after = optax.constant_schedule(self.learning_rate)
        rate = optax.join_schedules(
            [optax.linear_schedule(0.0, self.learning_rate, max(warm, 1)), after], [warm]
        )
        return optax.chain(optax.clip_by_global_norm(self.clip), optax.adam(rate))
