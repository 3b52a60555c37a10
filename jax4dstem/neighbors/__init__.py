"""To and from other programs: maps as files, and the objects and files of py4DSTEM, HyperSpy, pyxem and LiberTEM.

None of them is needed; what one of their objects is made of is imported when it is asked for.
"""

from jax4dstem.neighbors.export import MAP_FORMATS, export_maps
from jax4dstem.neighbors.maps import Map, find_maps, list_maps

__all__ = ["MAP_FORMATS", "Map", "export_maps", "find_maps", "list_maps"]
