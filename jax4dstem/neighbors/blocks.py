"""Patterns of a rectangle of the scan as the dataset's chain makes them, for programs that ask for arrays."""

from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset


def read_patterns(dataset: Dataset, rows: slice, cols: slice) -> np.ndarray:
    """Patterns of a rectangle, ``(rows, cols, det_y, det_x)``; without a chain of the type that the source has."""
    return np.asarray(dataset[rows, cols])


def dask_patterns(dataset: Dataset) -> Any:
    """The dataset as a Dask array of whole patterns, each block read when it is asked for."""
    from dask.array import core

    dtype = np.dtype(dataset.sample.dtype) if dataset.steps else dataset.dtype
    shape = (*dataset.scan_shape, *dataset.pattern_shape)
    chunks: Any = core.normalize_chunks(("auto", "auto", -1, -1), shape=shape, dtype=dtype)

    def read(block_info: Any = None) -> np.ndarray:
        (y0, y1), (x0, x1), *_ = block_info[None]["array-location"]
        return read_patterns(dataset, slice(y0, y1), slice(x0, x1))

    return core.map_blocks(read, chunks=chunks, dtype=dtype, meta=np.empty((0,) * 4, dtype))
