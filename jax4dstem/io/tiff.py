"""TIFF stacks, read page by page: RosettaSciIO's reader would load all of it for every tile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Doubt
from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.listening import listening
from jax4dstem.io.sources import Opener, memory_map

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Pages:
    """Pages of an open file as one stack."""

    pages: Any

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Read a range of pages."""
        chosen = range(*index[0].indices(len(self.pages)))
        if not chosen:
            return np.empty((0, *self.pages[0].shape), self.pages[0].dtype)[:, index[1], index[2]]
        return np.stack([self.pages[i].asarray()[index[1:]] for i in chosen])


def read(path: Path, layout: Layout) -> Stored:
    """Find the largest series of pages in a TIFF file."""
    tifffile = _tifffile(path)
    try:
        with listening("tifffile") as heard, tifffile.TiffFile(path) as file:
            number = max(range(len(file.series)), key=lambda i: file.series[i].size)
            series = file.series[number]
            shape, dtype, axes = series.shape, series.dtype, series.axes
            offset, paged = series.dataoffset, len(series.pages)
            byte_order = file.byteorder
    except Exception as error:  # tifffile raises whatever a broken file makes it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is truncated or no TIFF file: {reason}") from error
    if not axes.endswith("YX"):
        raise InputError(f"{path} holds pictures with axes {axes}, shape {shape}; expected counts")
    dtype, what = np.dtype(dtype), "TIFF, page by page"
    if offset is not None:  # the numbers of all pages follow each other
        dtype = dtype.newbyteorder(byte_order)
        opener, what = memory_map(path, dtype, shape, offset), "TIFF, memory-mapped"
    else:
        opener = _opener(path, number)
        shape = (paged, *shape[-2:])
    notes = (f"format: {what}", *map(Doubt, heard))
    return Stored(opener, shape, dtype, str(path), path.name, notes=notes)


def _opener(path: Path, number: int) -> Opener:
    @contextmanager
    def open_pages() -> Iterator[Pages]:
        with _tifffile(path).TiffFile(path) as file:
            yield Pages(file.series[number].pages)

    return open_pages


def _tifffile(path: Path) -> Any:
    try:
        return import_module("tifffile")
    except ImportError as error:
        raise InputError(f"{path} needs tifffile: pip install 'jax4dstem[formats]'") from error
