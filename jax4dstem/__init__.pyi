# The public names of the package: `__init__.py` reads them here and loads each when it is used.
from . import (
    anomaly,
    beam,
    calibrate,
    domains,
    embed,
    explore,
    health,
    io,
    lattice,
    models,
    neighbors,
    patterns,
    pipeline,
    regions,
    report,
    simulate,
    strain,
    stream,
    train,
)
from .beam import align_scan, measure_images, prepare_patterns, survey_scan
from .coordinates import Calibration
from .dataset import Dataset
from .domains import find_domains
from .errors import InputError, OutputError
from .fields import Field, Result
from .io import open_dataset
from .patterns import (
    align_direct_beam,
    annular_dark_field,
    bright_field,
    center_of_mass,
    center_pattern,
    ewpc,
    find_direct_beam,
    fit_descan,
    shift_pattern,
    virtual_image,
)
from .pipeline import Results, analyze, open_results
from .reducers import Covariance, Maximum, Mean, Moments
from .strain import StrainMap, measure_strain, pool_strain
from .stream import grad_patterns, map_patterns, reduce_patterns, use_all_cores

__version__: str
__all__ = [
    "Calibration",
    "Covariance",
    "Dataset",
    "Field",
    "InputError",
    "Maximum",
    "Mean",
    "Moments",
    "OutputError",
    "Result",
    "Results",
    "StrainMap",
    "align_direct_beam",
    "align_scan",
    "analyze",
    "annular_dark_field",
    "anomaly",
    "beam",
    "bright_field",
    "calibrate",
    "center_of_mass",
    "center_pattern",
    "domains",
    "embed",
    "ewpc",
    "explore",
    "find_direct_beam",
    "find_domains",
    "fit_descan",
    "grad_patterns",
    "health",
    "io",
    "lattice",
    "map_patterns",
    "measure_images",
    "measure_strain",
    "models",
    "neighbors",
    "open_dataset",
    "open_results",
    "patterns",
    "pipeline",
    "pool_strain",
    "prepare_patterns",
    "reduce_patterns",
    "regions",
    "report",
    "shift_pattern",
    "simulate",
    "strain",
    "stream",
    "survey_scan",
    "train",
    "use_all_cores",
    "virtual_image",
]
