"""The lift of value and gradient: a loss of shared parameters, summed over the patterns of a scan."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jax4dstem.dataset import Dataset, Step, chain, check_per_position, value_spec
from jax4dstem.errors import InputError
from jax4dstem.stream.plan import TILE_BYTES, Plan, check_lifted


def grad_patterns(
    loss: Callable,
    dataset: Dataset,
    shared: Any,
    *held: Any,
    per_position: Sequence[Any] = (),
    weights: np.ndarray | None = None,
    tile_bytes: int = TILE_BYTES,
    progress: str | None = None,
) -> tuple[float, Any]:
    r"""Value and gradient of a loss that is summed over all patterns, by what they share.

    .. math:: L(\theta) = \sum_s w_s \, \ell(I_s, p_s, \theta), \qquad \partial L / \partial \theta

    Gradients are taken inside the lift, in reverse mode of one batch of patterns at a time, and added: in
    single precision within a tile, in double precision over the tiles. What is kept for the way back is that of
    a batch, whatever the size of the scan.

    Args:
        loss: Called ``loss(pattern, *per_position, shared, *held)`` on one pattern; returns a number.
        dataset: The scan; the loss sees what its chain returns.
        shared: θ, a pytree of floating-point arrays.
        held: Further pytrees of arrays that all positions share, of which no gradient is taken.
        per_position: Pytrees of arrays p with leading axes ``(scan_y, scan_x)``; no gradient is taken.
        weights: w ``(scan_y, scan_x)``; default 1. A position of weight 0 is left out, whatever it holds.
        tile_bytes: Bound on the patterns in one tile, in bytes as float32.
        progress: Label of the progress bar, shown in terminals and notebooks.

    Returns:
        L, and its gradient as a pytree like ``shared``, in NumPy.

    Raises:
        InputError: A per-position argument or the weights do not match the scan, the loss is no number, or
            ``shared`` holds what has no gradient.

    Example:
        >>> import numpy as np
        >>> scan = Dataset.from_array(np.ones((3, 4, 8, 8), np.uint8))
        >>> def misfit(pattern, level):
        ...     return 0.5 * jnp.sum((pattern - level) ** 2)
        >>> value, gradient = grad_patterns(misfit, scan, jnp.asarray(3.0))
        >>> value, gradient.item()
        (1536.0, 1536.0)

    Reference: ours.
    """
    check_lifted("grad_patterns", dataset, shared, held, per_position, weights)
    if weights is None:
        weights = np.ones(dataset.scan_shape, np.float32)
    check_per_position((*per_position, weights), dataset.scan_shape)
    step = Step(loss, (shared, *held), tuple(per_position))
    _check_loss(value_spec(dataset, (*dataset.steps, step)), shared)
    weighted = Step(loss, step.shared, (np.asarray(weights, np.float32), *step.per_position))
    steps = (*dataset.steps, weighted)
    plan = Plan.of(dataset, tile_bytes)
    kernel = _gradient_kernel(tuple(s.fn for s in steps), plan.mesh, plan.cache_batch)
    total = jax.tree.map(lambda leaf: np.zeros(np.shape(leaf)), (0.0, shared))
    pending = None
    for tile, patterns, per, common in plan.feed(dataset, steps, progress):
        present = plan.shard(np.arange(plan.tile_size) < tile.n_patterns)
        sums = kernel(patterns, per, present, common)
        if pending is not None:  # the devices compute this tile while the last one is added
            total = jax.tree.map(_add_devices, total, pending)
        pending = sums
    if pending is not None:
        total = jax.tree.map(_add_devices, total, pending)
    if jax.process_count() > 1:
        gathered = multihost_utils.process_allgather(total)
        total = jax.tree.map(lambda leaf: np.sum(leaf, axis=0, dtype=np.float64), gathered)
    value, gradient = total
    like = jax.tree.map(lambda leaf, of: np.asarray(leaf, jnp.result_type(of)), gradient, shared)
    return float(value), like


def _add_devices(total: np.ndarray, parts: jax.Array) -> np.ndarray:
    return np.asarray(total + np.sum(np.asarray(parts), axis=0, dtype=np.float64))


def _check_loss(value: Any, shared: Any) -> None:
    if jax.tree.structure(value) != jax.tree.structure(0) or value.shape != ():
        shapes = jax.tree.map(lambda leaf: leaf.shape, value)
        raise InputError(f"the loss of grad_patterns must return one number, not {shapes}")
    kinds = {str(jnp.result_type(leaf)) for leaf in jax.tree.leaves(shared)}
    whole = sorted(kind for kind in kinds if not jnp.issubdtype(kind, jnp.floating))
    if whole:
        raise InputError(
            f"grad_patterns takes gradients of floating-point arrays, not of {', '.join(whole)}; "
            "pass what is held fixed after the shared parameters"
        )


@functools.lru_cache(maxsize=256)
def _gradient_kernel(fns: tuple[Callable, ...], mesh: Mesh, cache_batch: int) -> Callable:
    run = chain(fns)

    def on_device(patterns: Any, per_position: Any, present: Any, common: Any) -> Any:
        *before, (shared, *held) = common
        *chained, (weights, *given) = per_position

        def total(theta: Any, batch: Any) -> jax.Array:
            raw, per, weight = batch
            arguments = (*before, (theta, *held))
            return jnp.sum(weight * jax.vmap(run, (0, 0, None))(raw, per, arguments))

        def step(sums: Any, batch: Any) -> tuple[Any, None]:
            *values, weight = batch
            there = weight != 0
            # An absent pattern may have a gradient of NaN, and 0 * NaN is NaN: one that is there stands in.
            chosen = jnp.where(there, jnp.arange(cache_batch), jnp.argmax(there))
            values = jax.tree.map(lambda leaf: leaf[chosen], tuple(values))
            added = jax.lax.cond(
                jnp.any(there),
                lambda: jax.value_and_grad(total)(shared, (*values, weight)),
                lambda: zeros,
            )
            return jax.tree.map(jnp.add, sums, added), None

        batches = jax.tree.map(
            lambda leaf: leaf.reshape(-1, cache_batch, *leaf.shape[1:]),
            (patterns, (*chained, tuple(given)), jnp.where(present, weights, 0)),
        )
        one = jax.tree.map(lambda leaf: leaf[0], batches)
        value = jax.eval_shape(total, shared, one)
        zeros = jnp.zeros((), value.dtype), jax.tree.map(jnp.zeros_like, shared)
        sums, _ = jax.lax.scan(step, zeros, batches)
        return jax.tree.map(lambda leaf: leaf[None], sums)

    return jax.jit(
        jax.shard_map(
            on_device,
            mesh=mesh,
            in_specs=(P("data"), P("data"), P("data"), P()),
            out_specs=P("data"),
            check_vma=False,
        )
    )
