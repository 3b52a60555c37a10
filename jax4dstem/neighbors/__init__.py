"""To and from other programs: maps as files, and the objects and files of py4DSTEM, HyperSpy, pyxem and LiberTEM.

None of them is needed; what one of their objects is made of is imported when it is asked for.
"""

from jax4dstem.neighbors.bragg import FittedDisks, fitted_disks
from jax4dstem.neighbors.emd import write_emd
from jax4dstem.neighbors.export import MAP_FORMATS, export_maps
from jax4dstem.neighbors.hyperspy import from_hyperspy, map_to_hyperspy, to_hyperspy
from jax4dstem.neighbors.libertem import libertem_udf
from jax4dstem.neighbors.maps import Map, find_maps, list_maps
from jax4dstem.neighbors.py4dstem import to_py4dstem_calibration

__all__ = [
    "MAP_FORMATS",
    "FittedDisks",
    "Map",
    "export_maps",
    "find_maps",
    "fitted_disks",
    "from_hyperspy",
    "libertem_udf",
    "list_maps",
    "map_to_hyperspy",
    "to_hyperspy",
    "to_py4dstem_calibration",
    "write_emd",
]
