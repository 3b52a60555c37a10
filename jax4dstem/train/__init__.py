"""The one training engine: feeds, step, checkpoints, and the trained model."""

from jax4dstem.train.engine import TrainState, train
from jax4dstem.train.feeds import ArrayFeed, DatasetFeed
from jax4dstem.train.options import Training
from jax4dstem.train.regions import validation_region
from jax4dstem.train.trained import Trained, load_model, save_model

__all__ = [
    "ArrayFeed",
    "DatasetFeed",
    "TrainState",
    "Trained",
    "Training",
    "load_model",
    "save_model",
    "train",
    "validation_region",
]
