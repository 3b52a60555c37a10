"""The lifts: a pure function of one pattern, a mergeable statistic, or a gradient, over a whole scan.

All read the scan in tiles (rectangles aligned with the file's chunks, a bounded number of bytes),
one tile ahead of the computation, and run one compiled kernel per tile on all local devices. With
several processes (`jax.distributed`) each takes its share of the tiles and all get the answer.
"""

from jax4dstem.stream.feed import batches
from jax4dstem.stream.gradients import grad_patterns
from jax4dstem.stream.mapping import map_patterns
from jax4dstem.stream.plan import Tile, tiles, use_all_cores
from jax4dstem.stream.reducing import Reducer, reduce_patterns

__all__ = [
    "Reducer",
    "Tile",
    "batches",
    "grad_patterns",
    "map_patterns",
    "reduce_patterns",
    "tiles",
    "use_all_cores",
]
