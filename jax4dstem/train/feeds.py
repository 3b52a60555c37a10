"""Where batches come from: arrays that lie on the devices, or a dataset that is streamed."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.stream import batches

IN_MEMORY = 2**31  # bytes of samples that are kept on the devices
FETCHED = 1024  # samples fetched at a time

Batch = tuple[Any, Any]  # (sample, present): arrays (batch, ...), and 1 or 0 for padding


def data_mesh() -> Mesh:
    """Devices of all processes on one axis, ``data``: a batch is spread over it, weights are copied.

    On CPUs it has one device of every process, which uses all cores inside large operations: XLA's collectives
    between the CPU devices of one process may wait for each other for ever, and abort the program, after some hundred
    steps on a machine of few cores.
    """
    devices = jax.devices()
    if devices[0].platform == "cpu":
        devices = list({device.process_index: device for device in reversed(devices)}.values())[
            ::-1
        ]
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(tree: Any, mesh: Mesh) -> Any:
    """Arrays copied to all devices of all processes; each process must have the same."""
    everywhere = NamedSharding(mesh, P())

    def put(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, everywhere, lambda i: values[i])

    return jax.tree.map(put, tree)


@runtime_checkable
class Feed(Protocol):
    """Batches of samples ``(input, target)`` for training."""

    @property
    def n_samples(self) -> int:
        """Number of samples in an epoch."""
        ...

    def epoch(self, key: jax.Array | None, batch_size: int) -> Iterator[Batch]:
        """All samples once, shuffled with a key or in order, as arrays over the mesh."""
        ...


class ArrayFeed:
    """Samples in memory: copied to the devices once, so that no step copies from the host.

    Args:
        x: Inputs ``(n, ...)``.
        target: What they shall be reconstructed to; default: themselves.

    Raises:
        InputError: No sample, NaN or infinity, or shapes that do not match.

    Example:
        >>> feed = ArrayFeed(np.ones((10, 4)))
        >>> [int(present.sum()) for _, present in feed.epoch(jax.random.key(0), 8)]
        [8, 2]
    """

    def __init__(self, x: np.ndarray, target: np.ndarray | None = None):
        target = x if target is None else target
        for name, values in (("training data", x), ("targets", target)):
            if len(values) == 0:
                raise InputError(f"the {name} hold no sample")
            if not np.isfinite(values).all():
                bad = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).sum())
                raise InputError(
                    f"{bad} of {len(values)} samples of the {name} have NaN or infinity"
                )
        if x.shape != target.shape:
            raise InputError(f"inputs {x.shape} and targets {target.shape} differ in shape")
        self.n_samples = len(x)
        self.mesh = data_mesh()
        first = replicated(np.ascontiguousarray(x, np.float32), self.mesh)
        if target is x:
            self.samples = (first, first)
        else:
            self.samples = (first, replicated(np.ascontiguousarray(target, np.float32), self.mesh))

    def epoch(self, key: jax.Array | None, batch_size: int) -> Iterator[Batch]:
        """All samples once; the last batch is padded."""
        order = np.arange(self.n_samples)
        if key is not None:
            order = np.asarray(jax.random.permutation(key, self.n_samples))
        spread = NamedSharding(self.mesh, P("data"))
        take = _take(self.mesh)
        for begin in range(0, self.n_samples, batch_size):
            chosen = order[begin : begin + batch_size]
            present = np.zeros(batch_size, np.float32)
            present[: len(chosen)] = 1
            index = np.zeros(batch_size, np.int32)
            index[: len(chosen)] = chosen
            index, present = (
                jax.make_array_from_callback(a.shape, spread, lambda i, a=a: a[i])
                for a in (index, present)
            )
            yield take(self.samples, index), present


@functools.lru_cache(maxsize=8)
def _take(mesh: Mesh) -> Any:
    return jax.jit(
        lambda samples, index: jax.tree.map(lambda leaf: leaf[index], samples),
        out_shardings=NamedSharding(mesh, P("data")),
    )


@dataclass(frozen=True)
class DatasetFeed:
    """Patterns streamed from a dataset of any size, through its chain; each is its own target.

    Attributes:
        dataset: Its chain makes the sample of a pattern.
        chosen: Boolean ``(scan_y, scan_x)``: positions to train on; None takes all.

    Example:
        >>> scan = Dataset.from_array(np.ones((2, 5, 4, 4), np.uint8))
        >>> feed = DatasetFeed(scan, np.arange(10).reshape(2, 5) < 9)
        >>> feed.n_samples, [int(present.sum()) for _, present in feed.epoch(jax.random.key(0), 8)]
        (9, [8, 1])
    """

    dataset: Dataset
    chosen: np.ndarray | None = None

    @property
    def n_samples(self) -> int:
        """Number of positions."""
        return self.dataset.n_patterns if self.chosen is None else int(self.chosen.sum())

    def epoch(self, key: jax.Array | None, batch_size: int) -> Iterator[Batch]:
        """All positions once, shuffled within some tiles at a time."""
        spread = NamedSharding(data_mesh(), P("data"))
        for values, present in batches(self.dataset, key, batch_size, self.chosen):
            sample = jax.make_array_from_process_local_data(spread, values)
            yield (sample, sample), jax.make_array_from_process_local_data(spread, present)


def feed_of(dataset: Dataset, chosen: np.ndarray, limit: int = IN_MEMORY) -> Feed:
    """A dataset's samples at the chosen positions: in memory where they fit, streamed where not.

    Args:
        dataset: Its chain makes the samples.
        chosen: Boolean ``(scan_y, scan_x)``.
        limit: Bytes that fit.

    Returns:
        The feed.

    Example:
        >>> scan, all_of_it = Dataset.from_array(np.ones((2, 5, 4, 4), np.uint8)), np.ones((2, 5), bool)
        >>> type(feed_of(scan, all_of_it)).__name__, type(feed_of(scan, all_of_it, limit=100)).__name__
        ('ArrayFeed', 'DatasetFeed')
    """
    if 4 * prod(dataset.sample.shape) * int(chosen.sum()) > limit:
        return DatasetFeed(dataset, chosen)
    parts = [values[present > 0] for values, present in batches(dataset, None, FETCHED, chosen)]
    return ArrayFeed(np.concatenate(parts))
