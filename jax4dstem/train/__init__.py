"""The one training engine: feeds, step, checkpoints, and the trained model."""

from jax4dstem.train.apply import EncodeAndJudge, denoise
from jax4dstem.train.engine import TrainState, train
from jax4dstem.train.feeds import IN_MEMORY, ArrayFeed, DatasetFeed, feed_of
from jax4dstem.train.options import Training
from jax4dstem.train.regions import validation_region
from jax4dstem.train.trained import ApplyModel, Trained, load_model, save_model

__all__ = [
    "IN_MEMORY",
    "ApplyModel",
    "ArrayFeed",
    "DatasetFeed",
    "EncodeAndJudge",
    "TrainState",
    "Trained",
    "Training",
    "denoise",
    "feed_of",
    "load_model",
    "save_model",
    "train",
    "validation_region",
]
