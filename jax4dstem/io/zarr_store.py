"""zarr and zspy stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.hdf5 import axes_calibration, choose_key
from jax4dstem.io.layout import Layout, Stored, as_source


def is_store(path: Path) -> bool:
    """Whether a directory is a zarr store."""
    return any((path / name).exists() for name in (".zarray", ".zgroup", "zarr.json"))


def read(path: Path, layout: Layout) -> Dataset:
    """Open a zarr array, or the scan in a zarr group."""
    try:
        import zarr
    except ImportError as error:
        raise InputError(f"{path} needs zarr: pip install 'jax4dstem[zarr]'") from error
    try:
        root: Any = zarr.open(str(path), mode="r")
    except Exception as error:  # zarr's own errors differ between versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no readable zarr store: {reason}") from error
    notes: tuple[str, ...] = ("format: zarr",)
    array, attributes = root, {}
    if not hasattr(root, "shape"):
        found = {name: item.shape for name, item in _arrays(root)}
        key, why = choose_key(found, layout.key, path)
        array, notes = root[key], (*notes, why)
        parent = key.rpartition("/")[0]
        group = root[parent] if parent else root
        attributes = {name: dict(item.attrs) for name, item in group.groups()}

    @contextmanager
    def open_array() -> Iterator[Any]:
        yield array

    stored = Stored(
        open_array, array.shape, np.dtype(array.dtype), array.chunks, name=f"{path.name}"
    )
    source, more = as_source(stored, layout)
    calibration, why = axes_calibration(list(attributes.values()))
    return Dataset(source, calibration, notes=(*notes, *more, *why), path=str(path))


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in group.arrays():
        yield prefix + name, item
    for name, item in group.groups():
        yield from _arrays(item, f"{prefix}{name}/")
