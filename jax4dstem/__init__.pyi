# The public names of the package: `__init__.py` reads them here and loads each when it is used.
from . import (
    anomaly,
    cluster,
    embed,
    io,
    lattice,
    models,
    pipeline,
    report,
    simulate,
    strain,
    train,
)
from .align import (
    align_direct_beam,
    center_pattern,
    find_direct_beam,
    fit_descan,
    shift_pattern,
)
from .cepstrum import ewpc
from .coordinates import Calibration
from .dataset import Dataset
from .detectors import annular_dark_field, bright_field, center_of_mass, virtual_image
from .errors import InputError, OutputError
from .io import open_dataset, open_results
from .reducers import Covariance, Maximum, Mean, Moments
from .strain import StrainMap, measure_strain, pool_strain
from .stream import map_patterns, reduce_patterns, use_all_cores

__version__: str
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
    "__version__",
    "align_direct_beam",
    "annular_dark_field",
    "anomaly",
    "bright_field",
    "center_of_mass",
    "center_pattern",
    "cluster",
    "embed",
    "ewpc",
    "find_direct_beam",
    "fit_descan",
    "io",
    "lattice",
    "map_patterns",
    "measure_strain",
    "models",
    "open_dataset",
    "open_results",
    "pipeline",
    "pool_strain",
    "reduce_patterns",
    "report",
    "shift_pattern",
    "simulate",
    "strain",
    "train",
    "use_all_cores",
    "virtual_image",
]
