"""How a scan is cut into tiles, and how tiles reach the devices."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm.auto import tqdm

from jax4dstem.compiled import keep_compiled
from jax4dstem.cores import cpu_devices
from jax4dstem.dataset import Dataset, Step, check_dataset
from jax4dstem.errors import InputError

TILE_BYTES = 64 * 2**20  # patterns held at once, as float32; freed memory this small is used again
CACHE_BYTES = 2**20  # patterns a CPU core works on at once; they stay in its cache


@dataclass(frozen=True)
class Tile:
    """A rectangle of the scan that is read at once.

    Attributes:
        rows: Of the scan.
        cols: Columns of the scan.

    Example:
        >>> Tile(slice(0, 2), slice(3, 8)).n_patterns
        10
    """

    rows: slice
    cols: slice

    @property
    def n_patterns(self) -> int:
        """Number of positions."""
        return (self.rows.stop - self.rows.start) * (self.cols.stop - self.cols.start)


def use_all_cores() -> None:
    """Let the lifts use every CPU core, as one JAX device per core (at most 8).

    Call it before anything else uses JAX, as the command line does; afterwards JAX refuses. It changes
    nothing on GPUs and TPUs. Without it XLA uses several cores inside large operations only.

    Example:
        >>> import subprocess, sys  # of a process of its own, as JAX is already in use here
        >>> program = "import jax4dstem; jax4dstem.use_all_cores(); import jax; print(jax.device_count() > 0)"
        >>> subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
        'True\\n'
    """
    jax.config.update("jax_num_cpu_devices", cpu_devices())


def tiles(scan_shape: tuple[int, int], chunks: tuple[int, int], limit: int) -> list[Tile]:
    """Cut a scan into chunk-aligned rectangles of at most ``limit`` positions (at least one chunk).

    Args:
        scan_shape: ``(scan_y, scan_x)``.
        chunks: Rows and columns of the scan that are stored together.
        limit: Positions in a tile.

    Returns:
        The tiles; together they cover the scan once.

    Example:
        >>> [tile.n_patterns for tile in tiles((4, 6), (1, 1), 12)]
        [12, 12]
    """
    (height, width), (chunk_y, chunk_x) = scan_shape, chunks
    if chunk_y * width <= limit:
        step_y, step_x = _even_step(height, chunk_y, limit // (chunk_y * width)), width
    else:
        step_y, step_x = chunk_y, _even_step(width, chunk_x, limit // (chunk_y * chunk_x))
    return [
        Tile(slice(y, min(y + step_y, height)), slice(x, min(x + step_x, width)))
        for y in range(0, height, step_y)
        for x in range(0, width, step_x)
    ]


def _even_step(size: int, chunk: int, most: int) -> int:
    """Length of whole chunks, at most ``most`` of them, that cuts a side into parts alike.

    All tiles are padded to the largest: a short last one would cost as much as a full one.
    """
    chunks = -(-size // chunk)
    parts = -(-chunks // max(1, most))
    return -(-chunks // parts) * chunk


@dataclass(frozen=True)
class Plan:
    """How a scan is cut into tiles, and a tile into batches."""

    tiles: tuple[Tile, ...]
    tile_size: int
    cache_batch: int
    mesh: Mesh

    @classmethod
    def of(cls, dataset: Dataset, tile_bytes: int) -> "Plan":
        """Of tiles of at most so many bytes, as float32, on the local devices."""
        keep_compiled()
        mesh = _local_mesh()
        pattern_bytes = 4 * prod(dataset.detector_shape)
        cut = tuple(
            tiles(dataset.scan_shape, dataset.source.chunks, max(1, tile_bytes // pattern_bytes))
        )
        largest = max(tile.n_patterns for tile in cut)
        per_device = -(-largest // mesh.size)
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        cache = max(1, CACHE_BYTES // pattern_bytes) if on_cpu else per_device
        cache = min(cache, per_device)
        return cls(cut, -(-per_device // cache) * cache * mesh.size, cache, mesh)

    def shard(self, batch: Any) -> Any:
        """Pad the leading axis to the tile size and spread it over the devices."""
        sharding = NamedSharding(self.mesh, P("data"))

        def put(leaf: np.ndarray) -> jax.Array:
            if len(leaf) < self.tile_size:
                padding = np.zeros((self.tile_size - len(leaf), *leaf.shape[1:]), leaf.dtype)
                leaf = np.concatenate([leaf, padding])
            return jax.device_put(leaf, sharding)

        return jax.tree.map(put, batch)

    def feed(
        self, dataset: Dataset, steps: tuple[Step, ...], progress: str | None
    ) -> Iterator[tuple[Tile, Any, Any, Any]]:
        """Yield tiles on the devices, reading one ahead: tile, patterns, per-position, shared."""
        replicated = NamedSharding(self.mesh, P())
        shared = jax.device_put(tuple(step.shared for step in steps), replicated)
        per_scan = tuple(step.per_position for step in steps)

        def read(tile: Tile) -> tuple[Any, Any]:
            patterns = dataset.source.read(tile.rows, tile.cols)
            flat = patterns.reshape(tile.n_patterns, *dataset.detector_shape)
            per = jax.tree.map(
                lambda leaf: _flatten_scan(np.asarray(leaf)[tile.rows, tile.cols]), per_scan
            )
            return self.shard(flat), self.shard(per)

        mine = self.tiles[jax.process_index() :: jax.process_count()]
        bar = tqdm(
            total=sum(tile.n_patterns for tile in mine),
            desc=progress,
            unit="pattern",
            unit_scale=True,
            disable=True if progress is None else None,  # None: in terminals and notebooks only
        )
        with bar, ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(read, mine[0]) if mine else None
            for index, tile in enumerate(mine):
                patterns, per = ahead.result()  # type: ignore[union-attr]
                if index + 1 < len(mine):
                    ahead = reader.submit(read, mine[index + 1])
                yield tile, patterns, per, shared
                bar.update(tile.n_patterns)


def _flatten_scan(leaf: np.ndarray) -> np.ndarray:
    return leaf.reshape(leaf.shape[0] * leaf.shape[1], *leaf.shape[2:])


def _local_mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), ("data",), axis_types=(AxisType.Auto,))


def check_lifted(lift: str, dataset: Dataset, *arguments: Any) -> None:
    """Raise InputError where a lift is given no dataset, or called inside of jax.grad, jax.jit or jax.vmap."""
    check_dataset(dataset, lift)
    chained = [(step.shared, step.per_position) for step in dataset.steps]
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((arguments, chained))):
        raise InputError(
            f"{lift} reads a scan from its file, which jax.grad, jax.jit and jax.vmap cannot trace; for the "
            "gradient of a sum over patterns by shared parameters call grad_patterns"
        )
