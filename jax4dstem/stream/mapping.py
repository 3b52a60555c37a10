"""The lift of a pure function of one pattern: its value at every position of a scan."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jax4dstem.dataset import Dataset, Step, chain, check_per_position, value_spec
from jax4dstem.errors import InputError
from jax4dstem.stream.plan import TILE_BYTES, Plan, Tile, check_lifted


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
        progress: Label of the progress bar, shown in terminals and notebooks.

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
    check_lifted("map_patterns", dataset, shared, per_position)
    check_per_position(per_position, dataset.scan_shape)
    steps = (*dataset.steps, Step(fn, shared, tuple(per_position)))
    plan = Plan.of(dataset, tile_bytes)
    kernel = map_kernel(tuple(step.fn for step in steps), plan.mesh, plan.cache_batch)
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


@functools.lru_cache(maxsize=256)
def map_kernel(fns: tuple[Callable, ...], mesh: Mesh, cache_batch: int) -> Callable:
    """The compiled chain of pattern functions over the patterns of a tile."""
    return jax.jit(
        jax.shard_map(
            functools.partial(map_chain, fns, cache_batch),
            mesh=mesh,
            in_specs=(P("data"), P("data"), P()),
            out_specs=P("data"),
            check_vma=False,
        )
    )


def map_chain(
    fns: tuple[Callable, ...], cache_batch: int, patterns: Any, per_position: Any, shared: Any
) -> Any:
    """The chain over a device's patterns, ``cache_batch`` at a time."""
    run = chain(fns)
    if patterns.shape[0] <= cache_batch:
        return jax.vmap(run, (0, 0, None))(patterns, per_position, shared)
    return jax.lax.map(
        lambda args: run(*args, shared), (patterns, per_position), batch_size=cache_batch
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
