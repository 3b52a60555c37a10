"""A trained model as a pattern function, for `map_patterns` and for lazy datasets."""

from dataclasses import dataclass
from typing import Any

from jax4dstem.models import join, mean_squared_error
from jax4dstem.train.trained import ApplyModel, Trained, structure_of
from jax4dstem.typing import Array, Float


@dataclass(frozen=True)
class EncodeAndJudge:
    """Code and reconstruction error (a mean over the elements) of one sample, called ``(sample, weights)``.

    Attributes:
        spec: What the model is made of.

    Example:
        >>> import jax.numpy as jnp
        >>> from jax4dstem.models import AutoEncoderSpec, split
        >>> spec = AutoEncoderSpec((4,), 2)
        >>> code, error = EncodeAndJudge(spec)(jnp.ones(4), split(spec.build(0))[1])
        >>> code.shape, error.shape
        ((2,), ())
    """

    spec: Any

    def __call__(
        self, x: Float[Array, "..."], weights: Any
    ) -> tuple[Float[Array, " latent"], Float[Array, ""]]:
        """Both values."""
        model = join(structure_of(self.spec), weights)
        return model.encode(x), mean_squared_error(model(x), x)


def denoise(dataset: Any, trained: Trained) -> Any:
    """A dataset whose samples pass through a trained model: denoised patterns, computed when they are read.

    Args:
        dataset: Its chain makes the samples that the model was trained on.
        trained: The model.

    Returns:
        The lazy dataset of reconstructions.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.models import AutoEncoderSpec, Dense, Reconstruction
        >>> from jax4dstem.train import ArrayFeed, Training, train
        >>> scan = Dataset.from_array(np.ones((2, 3, 4, 4), np.float32))
        >>> spec, feed = AutoEncoderSpec((4, 4), 2, Dense((8,))), ArrayFeed(np.ones((6, 4, 4)))
        >>> trained = train(spec, Reconstruction(), feed, Training(epochs=1, batch_size=6))
        >>> denoise(scan, trained).sample.shape
        (4, 4)
    """
    return dataset.map(ApplyModel(trained.spec, "__call__"), trained.weights)
