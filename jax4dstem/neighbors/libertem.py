"""Pattern functions inside LiberTEM: a user-defined function (UDF) of what `map_patterns` takes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jax4dstem.dataset import ArraySource, Dataset, Step, value_spec
from jax4dstem.errors import InputError
from jax4dstem.stream import map_patterns

AUXILIARY = "per_position_{}"  # names of LiberTEM's slices of what differs between positions


def libertem_udf(function: Callable, *shared: Any, per_position: Sequence[Any] = ()) -> Any:
    """A UDF that applies a pure function of one pattern to every frame.

    ``ctx.run_udf(dataset, libertem_udf(function, ...))`` computes what ``map_patterns(function, scan, ...)`` does, by the same
    kernel, on the partitions that LiberTEM hands out. Frames keep the type that they have in the file. Results are named like
    the keys of what the function returns, "result" for a bare array.

    Args:
        function: Called ``function(pattern, *per_position, *shared)`` on one pattern; returns a pytree of arrays.
        shared: Pytrees of arrays, the same for every position.
        per_position: Pytrees of arrays with leading axes ``(scan_y, scan_x)``.

    Returns:
        An instance of ``libertem.udf.UDF``.

    Raises:
        InputError: LiberTEM is not installed, or a per-position argument has no scan axes.

    Example:
        >>> from jax4dstem import bright_field
        >>> import numpy as np
        >>> from libertem.api import Context  # doctest: +SKIP
        >>> ctx = Context.make_with("inline")  # doctest: +SKIP
        >>> frames = ctx.load("memory", data=np.ones((2, 3, 8, 8), np.uint16), sig_dims=2)  # doctest: +SKIP
        >>> ctx.run_udf(frames, libertem_udf(bright_field, np.array([4.0, 4.0]), 2.0))["result"].data.shape  # doctest: +SKIP
        (2, 3)
    """
    udf = _udf_class()
    leaves, structure = jax.tree.flatten(tuple(per_position))
    leaves = [np.asarray(leaf) for leaf in leaves]
    short = [leaf.shape for leaf in leaves if leaf.ndim < 2]
    if short:
        raise InputError(
            f"a per-position argument has shape {short[0]}; it must start with the axes of the scan"
        )
    auxiliary = {
        AUXILIARY.format(i): udf.aux_data(
            leaf.ravel(), kind="nav", extra_shape=leaf.shape[2:], dtype=leaf.dtype
        )
        for i, leaf in enumerate(leaves)
    }
    # The structure as a tree of numbers: JAX's own description of it cannot be sent to other processes.
    numbered = jax.tree.unflatten(structure, range(len(leaves)))
    return udf(function=function, shared=jax.device_get(shared), numbered=numbered, **auxiliary)


@functools.cache
def _udf_class() -> Any:
    """The class, which can only be made where LiberTEM is."""
    try:
        from libertem.udf import UDF
    except ImportError as error:
        raise InputError("LiberTEM is not installed: pip install 'jax4dstem[libertem]'") from error

    class PatternUDF(UDF):
        """A pure function of one pattern at every position."""

        def get_backends(self) -> tuple[str, ...]:
            """Frames are NumPy arrays; JAX decides where it computes."""
            return (self.BACKEND_NUMPY,)

        def get_preferred_input_dtype(self) -> Any:
            """Counts stay integers until they reach the device."""
            return self.USE_NATIVE_DTYPE

        def get_result_buffers(self) -> dict[str, Any]:
            """A number or array per position for every leaf of what the function returns."""
            frame = np.zeros((1, 1, *self.meta.dataset_shape.sig), self.meta.dataset_dtype)
            blank = Dataset(ArraySource(frame))
            per_position = jax.tree.map(
                lambda i: np.zeros((1, 1, *self._one(i).shape), self._one(i).dtype),
                self.params.numbered,
            )
            step = Step(self.params.function, self.params.shared, per_position)
            spec = value_spec(blank, (step,))
            return {
                name: self.buffer(kind="nav", extra_shape=leaf.shape, dtype=leaf.dtype)
                for name, leaf in _named_leaves(spec)
            }

        def process_partition(self, partition: np.ndarray) -> None:
            """The frames of a partition, as a scan of one column."""
            scan = Dataset.from_array(partition[:, None])
            per_position = jax.tree.map(
                lambda i: getattr(self.params, AUXILIARY.format(i))[:, None], self.params.numbered
            )
            values = map_patterns(
                self.params.function, scan, *self.params.shared, per_position=per_position
            )
            for name, leaf in _named_leaves(values):
                getattr(self.results, name)[:] = leaf[:, 0]

        def _one(self, number: int) -> Any:
            """Shape and type of a per-position argument at one position."""
            wrapper = self._kwargs[AUXILIARY.format(number)]
            return jax.ShapeDtypeStruct(wrapper.extra_shape, wrapper.dtype)

    return PatternUDF


def _named_leaves(tree: Any) -> list[tuple[str, Any]]:
    """Leaves by names that LiberTEM can have as attributes."""
    return [
        (
            "_".join(
                str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
                for key in path
            )
            or "result",
            leaf,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]
