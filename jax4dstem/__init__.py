"""jax4dstem: from raw 4D-STEM data to domains, strain and error bars, in JAX."""

__version__ = "0.1.0"

from jax4dstem.align import (
    align_direct_beam,
    center_pattern,
    find_direct_beam,
    fit_descan,
    shift_pattern,
)
from jax4dstem.cepstrum import ewpc
from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.detectors import annular_dark_field, bright_field, center_of_mass, virtual_image
from jax4dstem.errors import InputError, OutputError
from jax4dstem.io import open_dataset, open_results
from jax4dstem.reducers import Covariance, Maximum, Mean, Moments
from jax4dstem.strain import StrainMap, measure_strain, pool_strain
from jax4dstem.stream import grad_patterns, map_patterns, reduce_patterns, use_all_cores

__all__ = [
    "Calibration",
    "Covariance",
    "Dataset",
    "InputError",
    "Maximum",
    "Mean",
    "Moments",
    "OutputError",
    "StrainMap",
    "align_direct_beam",
    "annular_dark_field",
    "bright_field",
    "center_of_mass",
    "center_pattern",
    "ewpc",
    "find_direct_beam",
    "fit_descan",
    "grad_patterns",
    "map_patterns",
    "measure_strain",
    "open_dataset",
    "open_results",
    "pool_strain",
    "reduce_patterns",
    "shift_pattern",
    "use_all_cores",
    "virtual_image",
]
