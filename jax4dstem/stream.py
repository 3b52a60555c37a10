"""The two lifts: a pure function of one pattern, or a mergeable statistic, over a whole scan.

Both read the scan in tiles (rectangles aligned with the file's chunks, a bounded number of bytes),
one tile ahead of the computation, and run one compiled kernel per tile on all local devices. With
several processes (`jax.distributed`) each takes its share of the tiles and all get the answer.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol, runtime_checkable

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from jax4dstem.cores import cpu_devices
from jax4dstem.dataset import Dataset, Step, chain, check_per_position, value_spec
from jax4dstem.errors import InputError

TILE_BYTES = 64 * 2**20  # patterns held at once, as float32; freed memory this small is used again
CACHE_BYTES = 2**20  # patterns a CPU core works on at once; they stay in its cache


@runtime_checkable
class Reducer(Protocol):
    """A mergeable one-pass statistic of per-pattern values; `merge` is associative and commutative.

    Implementations are frozen dataclasses, so that equal reducers share one compiled kernel.
    """

    def init(self, value: Any, weight: Any) -> Any:
        """State before any pattern; ``value`` and ``weight`` give shape and dtype of one position."""
        ...

    def update(self, state: Any, values: Any, weights: Any) -> Any:
        """State after a batch ``(n, ...)`` with weights ``(n, ...)``; weight 0 means absent."""
        ...

    def merge(self, a: Any, b: Any) -> Any:
        """State of two disjoint sets of patterns."""
        ...

    def finalize(self, state: Any) -> Any:
        """The answer."""
        ...


@dataclass(frozen=True)
class Tile:
    """A rectangle of the scan that is read at once."""

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
    """
    jax.config.update("jax_num_cpu_devices", cpu_devices())


def map_patterns(
    fn: Callable,
    dataset: Dataset,
    *shared: Any,
    per_position: Sequence[Any] = (),
    out: h5py.Group | None = None,
    tile_bytes: int = TILE_BYTES,
    progress: str | None = None,
) -> Any:
    """Apply a pure function to every pattern of a dataset.

    The dataset's chain and ``fn`` are compiled together, mapped over the patterns of a tile and
    sharded over the local devices. The kernel is cached by functions, shapes and dtypes: calling
    again with other parameters does not compile again.

    Args:
        fn: Called ``fn(pattern, *per_position, *shared)`` on one pattern; returns a pytree of arrays.
        dataset: The scan.
        shared: Pytrees of arrays, the same for every position.
        per_position: Pytrees of arrays with leading axes ``(scan_y, scan_x)``.
        out: An open HDF5 group that receives the result instead of memory.
        tile_bytes: Bound on the patterns in one tile, in bytes as float32.
        progress: Label of the progress bar, shown on a terminal.

    Returns:
        The pytree of ``fn`` with arrays ``(scan_y, scan_x, ...)``, in NumPy or, with ``out``, as HDF5
        datasets named after the tree's keys ("result" for a bare array).

    Raises:
        InputError: A per-position argument does not match the scan.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jax4dstem import Dataset
        >>> scan = Dataset.from_array(np.ones((4, 5, 8, 8), np.uint8))
        >>> map_patterns(lambda pattern, gain: gain * pattern.sum(), scan, 0.5).shape
        (4, 5)
    """
    check_per_position(per_position, dataset.scan_shape)
    steps = (*dataset.steps, Step(fn, shared, tuple(per_position)))
    plan = _Plan.of(dataset, tile_bytes)
    kernel = _map_kernel(tuple(step.fn for step in steps), plan.mesh, plan.cache_batch)
    spec = value_spec(dataset, steps)
    result = _allocate(spec, dataset.scan_shape, out)

    def store(tile: Tile, values: Any) -> None:
        shape = (tile.rows.stop - tile.rows.start, tile.cols.stop - tile.cols.start)
        for target, leaf in zip(jax.tree.leaves(result), jax.tree.leaves(values), strict=True):
            leaf = np.asarray(leaf)[: tile.n_patterns]
            target[tile.rows, tile.cols] = leaf.reshape(*shape, *leaf.shape[1:])

    pending = None
    for tile, patterns, per, common in plan.feed(dataset, steps, progress):
        values = kernel(patterns, per, common)
        if pending is not None:  # the device computes this tile while the last one is stored
            store(*pending)
        pending = tile, values
    if pending is not None:
        store(*pending)
    return _combine_hosts(result)


def reduce_patterns(
    reducer: Any,
    dataset: Dataset,
    *,
    weights: np.ndarray | None = None,
    tile_bytes: int = TILE_BYTES,
    progress: str | None = None,
) -> Any:
    """Reduce all patterns to one statistic, in one pass and bounded memory.

    Args:
        reducer: A `Reducer`, or a tuple of them, which then share the pass.
        dataset: The scan; the reducer sees what its chain returns.
        weights: ``(scan_y, scan_x)`` or ``(scan_y, scan_x, k)``; default 1. One-hot weights of k
            labels give the statistic of every cluster in the same pass, with reducers that allow it.
        tile_bytes: Bound on the patterns in one tile, in bytes as float32.
        progress: Label of the progress bar, shown on a terminal.

    Returns:
        The reducer's result (a tuple of results for a tuple of reducers), as NumPy arrays.

    Raises:
        InputError: The weights do not match the scan.

    Example:
        >>> import numpy as np
        >>> from jax4dstem import Dataset, Moments
        >>> scan = Dataset.from_array(np.arange(64.0).reshape(2, 2, 4, 4))
        >>> float(reduce_patterns(Moments(), scan).mean[0, 0])
        24.0
    """
    if isinstance(reducer, tuple):
        reducer = _Together(reducer)
    if weights is None:
        weights = np.ones(dataset.scan_shape, np.float32)
    check_per_position((weights,), dataset.scan_shape)
    steps = (*dataset.steps, Step(_pair_with_weight, (), (np.asarray(weights, np.float32),)))
    fns = tuple(step.fn for step in steps)
    plan = _Plan.of(dataset, tile_bytes)
    value, weight = value_spec(dataset, steps)
    batch = _update_batch(reducer, value, weight, plan)
    kernel = _reduce_kernel(fns, reducer, plan.mesh, plan.cache_batch, batch)
    state = _initial_states(reducer, value, weight, plan.mesh)
    for tile, patterns, per, common in plan.feed(dataset, steps, progress):
        present = plan.shard(np.arange(plan.tile_size) < tile.n_patterns)
        # Waiting for the last tile bounds the memory that asynchronous dispatch may hold.
        state = kernel(jax.block_until_ready(state), patterns, per, present, common)
    return jax.tree.map(np.asarray, reducer.finalize(_merge_states(reducer, state)))


def batches(
    dataset: Dataset,
    key: jax.Array | None,
    batch_size: int,
    chosen: np.ndarray | None = None,
    tile_bytes: int = TILE_BYTES // 4,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Shuffled batches of a dataset of any size, for training: the one feed beside the two lifts.

    Tiles come in random order and are mixed in pairs, so neighbors in a batch are not neighbors in the
    scan. Each process gets its share of the tiles, and all give equally many batches.

    Args:
        dataset: Its chain is applied.
        key: Of the order; None keeps that of the tiles.
        batch_size: Over all processes.
        chosen: Boolean ``(scan_y, scan_x)``; default all positions.
        tile_bytes: Bound on the patterns in one tile, in bytes as float32.

    Yields:
        Values ``(batch, ...)`` in NumPy, and 1 for each that is one, 0 for padding.

    Example:
        >>> scan = Dataset.from_array(np.ones((4, 5, 8, 8), np.uint8))
        >>> [int(present.sum()) for _, present in batches(scan, jax.random.key(0), 16)]
        [16, 4]
    """
    plan = _Plan.of(dataset, tile_bytes)
    kernel = _map_kernel(tuple(step.fn for step in dataset.steps), plan.mesh, plan.cache_batch)
    seed = None if key is None else np.asarray(jax.random.key_data(key)).ravel()
    random = np.random.default_rng(seed)
    if key is not None:
        plan = replace(
            plan, tiles=tuple(plan.tiles[i] for i in random.permutation(len(plan.tiles)))
        )
    keep = np.ones(dataset.scan_shape, bool) if chosen is None else np.asarray(chosen, bool)
    hosts = jax.process_count()
    local = batch_size // hosts
    shares = [
        sum(int(keep[tile.rows, tile.cols].sum()) for tile in plan.tiles[host::hosts])
        for host in range(hosts)
    ]
    left = -(-max(shares) // local)
    pool = np.zeros((0, *dataset.sample.shape), dataset.sample.dtype)
    for tile, patterns, per, common in plan.feed(dataset, dataset.steps, None):
        values = np.asarray(kernel(patterns, per, common))[: tile.n_patterns]
        pool = np.concatenate([pool, values[keep[tile.rows, tile.cols].ravel()]])
        if key is not None:
            pool = pool[random.permutation(len(pool))]
        while len(pool) >= max(local, plan.tile_size):
            yield pool[:local], np.ones(local, np.float32)
            pool, left = pool[local:], left - 1
    for _ in range(left):
        rows = pool[:local]
        present = (np.arange(local) < len(rows)).astype(np.float32)
        yield (
            np.concatenate([rows, np.zeros((local - len(rows), *rows.shape[1:]), rows.dtype)]),
            present,
        )
        pool = pool[local:]


def tiles(scan_shape: tuple[int, int], chunks: tuple[int, int], limit: int) -> list[Tile]:
    """Cut a scan into chunk-aligned rectangles of at most ``limit`` positions (at least one chunk)."""
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
class _Plan:
    """How a scan is cut into tiles, and a tile into batches."""

    tiles: tuple[Tile, ...]
    tile_size: int
    cache_batch: int
    mesh: Mesh

    @classmethod
    def of(cls, dataset: Dataset, tile_bytes: int) -> "_Plan":
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
            disable=True if progress is None else None,  # None: only on a terminal
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


def _pair_with_weight(value: Any, weight: Any) -> tuple[Any, Any]:
    return value, weight


@functools.lru_cache(maxsize=256)
def _map_kernel(fns: tuple[Callable, ...], mesh: Mesh, cache_batch: int) -> Callable:
    return jax.jit(
        jax.shard_map(
            functools.partial(_map_chain, fns, cache_batch),
            mesh=mesh,
            in_specs=(P("data"), P("data"), P()),
            out_specs=P("data"),
            check_vma=False,
        )
    )


def _map_chain(
    fns: tuple[Callable, ...], cache_batch: int, patterns: Any, per_position: Any, shared: Any
) -> Any:
    """The chain over a device's patterns, ``cache_batch`` at a time."""
    run = chain(fns)
    if patterns.shape[0] <= cache_batch:
        return jax.vmap(run, (0, 0, None))(patterns, per_position, shared)
    return jax.lax.map(
        lambda args: run(*args, shared), (patterns, per_position), batch_size=cache_batch
    )


@functools.lru_cache(maxsize=256)
def _reduce_kernel(
    fns: tuple[Callable, ...], reducer: Any, mesh: Mesh, cache_batch: int, update_batch: int
) -> Callable:
    def on_device(state: Any, patterns: Any, per_position: Any, present: Any, shared: Any) -> Any:
        state = jax.tree.map(lambda leaf: leaf[0], state)

        def step(tile_state: Any, batch: Any) -> tuple[Any, None]:
            raw, per, there = batch
            values, weights = _map_chain(fns, cache_batch, raw, per, shared)
            weights = jnp.where(_like(there, weights), weights, 0.0)
            # An absent value may be NaN (an empty pattern, normalized), and 0 * NaN is NaN.
            there = jnp.any(weights.reshape(weights.shape[0], -1) != 0, axis=1)
            values = jax.tree.map(lambda v: jnp.where(_like(there, v), v, 0), values)
            return reducer.update(tile_state, values, weights), None

        batches = jax.tree.map(
            lambda leaf: leaf.reshape(-1, update_batch, *leaf.shape[1:]),
            (patterns, per_position, present),
        )
        one = jax.tree.map(lambda leaf: leaf[0], (patterns, per_position))
        value, weight = jax.eval_shape(chain(fns), *one, shared)
        # A fresh state per tile, merged afterwards, keeps float32 sums of many patterns accurate.
        tile_state, _ = jax.lax.scan(step, reducer.init(value, weight), batches)
        return jax.tree.map(lambda leaf: leaf[None], reducer.merge(state, tile_state))

    return jax.jit(
        jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(P("data"), P("data"), P("data"), P("data"), P()),
            out_specs=P("data"),
            check_vma=False,
        ),
        donate_argnums=0,
    )


def _like(flags: jax.Array, values: jax.Array) -> jax.Array:
    """Reshape ``(n,)`` to broadcast against ``(n, ...)``."""
    return flags.reshape(flags.shape + (1,) * (values.ndim - 1))


def _update_batch(reducer: Any, value: Any, weight: Any, plan: _Plan) -> int:
    """Patterns per update: an update touches the whole state, so large states get large batches."""

    def size(tree: Any) -> int:
        return sum(prod(leaf.shape) for leaf in jax.tree.leaves(tree))

    state = jax.eval_shape(lambda: reducer.init(value, weight))
    per_device = plan.tile_size // plan.mesh.size
    wanted = max(1, size(state) // max(1, size(value)) // plan.cache_batch)
    n_batches = per_device // plan.cache_batch
    groups = max(
        divisor
        for divisor in range(1, n_batches + 1)
        if n_batches % divisor == 0 and divisor <= wanted
    )
    return groups * plan.cache_batch


def _initial_states(reducer: Any, value: Any, weight: Any, mesh: Mesh) -> Any:
    def spread(leaf: jax.Array) -> jax.Array:
        stacked = np.broadcast_to(np.asarray(leaf), (mesh.size, *leaf.shape))
        return jax.device_put(stacked, NamedSharding(mesh, P("data")))

    return jax.tree.map(spread, reducer.init(value, weight))


def _merge_states(reducer: Any, state: Any) -> Any:
    """Merge the states of all devices, and of all processes."""
    # On the host: indexing an array that is spread over devices would start a collective operation.
    state = jax.tree.map(np.asarray, state)
    if jax.process_count() > 1:
        state = multihost_utils.process_allgather(state, tiled=True)
    parts = range(jax.tree.leaves(state)[0].shape[0])
    return functools.reduce(
        reducer.merge, (jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), state) for i in parts)
    )


def _allocate(spec: Any, scan_shape: tuple[int, int], out: h5py.Group | None) -> Any:
    if out is None:
        # Zeros, so that the parts of several processes can be added.
        return jax.tree.map(lambda leaf: np.zeros((*scan_shape, *leaf.shape), leaf.dtype), spec)
    if jax.process_count() > 1:
        raise InputError("out= writes from one process only; gather in memory or run one process")

    def create(path: Any, leaf: Any) -> h5py.Dataset:
        name = "/".join(
            str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
        )
        return out.create_dataset(name or "result", (*scan_shape, *leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(create, spec)


def _combine_hosts(result: Any) -> Any:
    if jax.process_count() == 1:
        return result
    gathered = multihost_utils.process_allgather(result)
    return jax.tree.map(lambda leaf: np.sum(leaf, axis=0, dtype=leaf.dtype), gathered)


@dataclass(frozen=True)
class _Together:
    """Several reducers in one pass."""

    reducers: tuple[Any, ...]

    def init(self, value: Any, weight: Any) -> Any:
        return tuple(r.init(value, weight) for r in self.reducers)

    def update(self, state: Any, values: Any, weights: Any) -> Any:
        return tuple(
            r.update(s, values, weights) for r, s in zip(self.reducers, state, strict=True)
        )

    def merge(self, a: Any, b: Any) -> Any:
        return tuple(r.merge(x, y) for r, x, y in zip(self.reducers, a, b, strict=True))

    def finalize(self, state: Any) -> Any:
        return tuple(r.finalize(s) for r, s in zip(self.reducers, state, strict=True))
