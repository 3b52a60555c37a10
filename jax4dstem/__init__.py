"""jax4dstem: from raw 4D-STEM data to domains, strain and error bars, in JAX."""

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError, OutputError
from jax4dstem.reducers import Covariance, Maximum, Mean, Moments
from jax4dstem.stream import map_patterns, reduce_patterns

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Covariance",
    "Dataset",
    "InputError",
    "Maximum",
    "Mean",
    "Moments",
    "OutputError",
    "map_patterns",
    "reduce_patterns",
]
