"""The one feed beside the lifts: shuffled batches of a scan, for training."""

from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.stream.mapping import map_kernel
from jax4dstem.stream.plan import TILE_BYTES, Plan


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
    plan = Plan.of(dataset, tile_bytes)
    kernel = map_kernel(tuple(step.fn for step in dataset.steps), plan.mesh, plan.cache_batch)
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
