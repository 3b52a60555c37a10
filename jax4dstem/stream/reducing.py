"""The lift of a mergeable statistic: one answer of all patterns of a scan."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax4dstem.dataset import Dataset, Step, chain, check_per_position, value_spec
from jax4dstem.stream.mapping import map_chain
from jax4dstem.stream.plan import TILE_BYTES, Plan, check_lifted


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
        progress: Label of the progress bar, shown in terminals and notebooks.

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
    check_lifted("reduce_patterns", dataset, weights)
    if weights is None:
        weights = np.ones(dataset.scan_shape, np.float32)
    check_per_position((weights,), dataset.scan_shape)
    steps = (*dataset.steps, Step(_pair_with_weight, (), (np.asarray(weights, np.float32),)))
    fns = tuple(step.fn for step in steps)
    plan = Plan.of(dataset, tile_bytes)
    value, weight = value_spec(dataset, steps)
    batch = _update_batch(reducer, value, weight, plan)
    kernel = _reduce_kernel(fns, reducer, plan.mesh, plan.cache_batch, batch)
    state = _initial_states(reducer, value, weight, plan.mesh)
    for tile, patterns, per, common in plan.feed(dataset, steps, progress):
        present = plan.shard(np.arange(plan.tile_size) < tile.n_patterns)
        # Waiting for the last tile bounds the memory that asynchronous dispatch may hold.
        state = kernel(jax.block_until_ready(state), patterns, per, present, common)
    return jax.tree.map(np.asarray, _result(reducer, _gather(state)))


def _pair_with_weight(value: Any, weight: Any) -> tuple[Any, Any]:
    return value, weight


@functools.lru_cache(maxsize=256)
def _reduce_kernel(
    fns: tuple[Callable, ...], reducer: Any, mesh: Mesh, cache_batch: int, update_batch: int
) -> Callable:
    def on_device(state: Any, patterns: Any, per_position: Any, present: Any, shared: Any) -> Any:
        state = jax.tree.map(lambda leaf: leaf[0], state)

        def step(tile_state: Any, batch: Any) -> tuple[Any, None]:
            raw, per, there = batch
            values, weights = map_chain(fns, cache_batch, raw, per, shared)
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


def _update_batch(reducer: Any, value: Any, weight: Any, plan: Plan) -> int:
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


def _gather(state: Any) -> Any:
    """The states of all devices, and of all processes."""
    # On the host: indexing an array that is spread over devices would start a collective operation.
    state = jax.tree.map(np.asarray, state)
    if jax.process_count() > 1:
        state = multihost_utils.process_allgather(state, tiled=True)
    return state


@functools.partial(jax.jit, static_argnums=0)
def _result(reducer: Any, states: Any) -> Any:
    """The result of states with a leading axis."""
    parts = range(jax.tree.leaves(states)[0].shape[0])
    merged = functools.reduce(
        reducer.merge, (jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in parts)
    )
    return reducer.finalize(merged)


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
