"""jax4dstem: from raw 4D-STEM data to domains, strain and error bars, in JAX."""

__version__ = "0.1.0"

from jax4dstem.align import align_direct_beam, center_pattern, fit_descan, shift_pattern
from jax4dstem.cepstrum import ewpc
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.detectors import annular_dark_field, bright_field, center_of_mass, virtual_image
from jax4dstem.errors import InputError, OutputError
from jax4dstem.io import open_dataset, open_results
from jax4dstem.reducers import Covariance, Maximum, Mean, Moments
from jax4dstem.stream import map_patterns, reduce_patterns, use_all_cores

__all__ = [
    "Calibration",
    "Covariance",
    "Dataset",
    "InputError",
    "Maximum",
    "Mean",
    "Moments",
    "OutputError",
    "align_direct_beam",
    "annular_dark_field",
    "bright_field",
    "center_of_mass",
    "center_pattern",
    "ewpc",
    "fit_descan",
    "map_patterns",
    "open_dataset",
    "open_results",
    "reduce_patterns",
    "shift_pattern",
    "use_all_cores",
    "virtual_image",
]
