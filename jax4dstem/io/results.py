"""The results file: groups of described arrays in HDF5, written whole or not at all."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.fields import Field, Tree
from jax4dstem.io.whole import written_whole

EXPECTED = "expected what jax4dstem writes, such as results.h5 or the directory it is in"
COMPRESSED_FROM = 2**16  # bytes; smaller arrays are not worth a filter


def write_group(path: str | Path, tree: Tree, attributes: dict[str, Any]) -> None:
    """Write nested groups of `Field` to an HDF5 file, under a temporary name until it is complete.

    Args:
        path: The file; one that exists is replaced at the end.
        tree: ``{"name": Field | {...}}``.
        attributes: Attributes of the root.

    Raises:
        OutputError: The file cannot be written; an older file is left as it was.
    """
    path = Path(path)
    # HDF5 cannot recover from a full disk (it crashes when it closes the file), so the file is made in
    # memory: results are maps and means, small against the data.
    image = BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs.update(attributes)
        _write(file, tree)
    write_bytes(path, image.getbuffer())


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name and rename it when it is complete.

    Raises:
        OutputError: It cannot be written; an older file is left as it was.
    """
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_group(path: str | Path) -> tuple[Tree, dict[str, Any]]:
    """Read what `write_group` has written: the tree and the root's attributes.

    Raises:
        InputError: The file is missing, damaged, or no file that `write_group` has written.
    """
    if Path(path).is_file() and not h5py.is_hdf5(path):
        raise InputError(f"{path} is no results file: {EXPECTED}")
    try:
        with h5py.File(path, "r") as file:
            if len(file) and not file.visititems(_is_described):  # a scan may not fit into memory
                raise InputError(f"{path} is an HDF5 file, but not of results: {EXPECTED}")
            return _read(file), dict(file.attrs)
    except OSError as error:
        raise InputError(
            f"cannot read results from {path}: {str(error).splitlines()[0]}"
        ) from error


def _write(group: h5py.Group, tree: Tree) -> None:
    for name, item in tree.items():
        if isinstance(item, dict):
            _write(group.create_group(name), item)
            continue
        data = item.data if isinstance(item.data, str) else np.asarray(item.data)
        if isinstance(data, np.ndarray) and data.dtype.kind == "U":
            data = data.astype(h5py.string_dtype())
        large = isinstance(data, np.ndarray) and data.nbytes >= COMPRESSED_FROM
        filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if large else {}
        dataset = group.create_dataset(name, data=data, **filters)
        dataset.attrs.update(units=item.units, description=item.description, dims=list(item.dims))


def _is_described(_: str, item: Any) -> bool | None:
    """True for an array of `write_group`; None goes on to the next one."""
    return (isinstance(item, h5py.Dataset) and "description" in item.attrs) or None


def _read(group: h5py.Group) -> Tree:
    tree: Tree = {}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            tree[name] = _read(item)
            continue
        text = h5py.check_string_dtype(item.dtype) is not None
        data = item.asstr()[()] if text else item[()]
        about = item.attrs
        # Files of the first schema do not name their dimensions.
        dims = about.get("dims", [f"{name}_{axis}" for axis in range(np.ndim(data))])
        dims = tuple(str(dim) for dim in dims)
        tree[name] = Field(data, about.get("units", ""), about.get("description", ""), dims)
    return tree
