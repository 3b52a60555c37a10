"""The results file: groups of described arrays in HDF5, written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray

from jax4dstem.errors import InputError, OutputError
from jax4dstem.typing import Tree

COMPRESSED_FROM = 2**16  # bytes; smaller arrays are not worth a filter


@dataclass(frozen=True)
class Field:
    """One dataset of the results file: an array (or text), its units and what it is."""

    data: Any
    units: str = ""
    description: str = ""


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
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def read_group(path: str | Path) -> tuple[Tree, dict[str, Any]]:
    """Read what `write_group` has written: the tree and the root's attributes.

    Raises:
        InputError: The file is missing or not a results file.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(file), dict(file.attrs)
    except OSError as error:
        raise InputError(
            f"cannot read results from {path}: {str(error).splitlines()[0]}"
        ) from error


def open_results(out: str | Path) -> xarray.DataTree:
    """Open a results directory (or file) as an xarray tree, one node per group.

    Axes are named ``scan_y, scan_x`` and ``det_y, det_x`` where their lengths are those of the scan and
    the prepared pattern; others are ``<name>_0, <name>_1, ...``.

    Args:
        out: The directory given to `analyze`, or the path of its results.h5.

    Returns:
        A tree whose variables carry ``units`` and ``description``, the root the provenance.

    Raises:
        InputError: There are no results.
    """
    path = Path(out)
    path = path / "results.h5" if path.is_dir() else path
    if not path.exists():
        raise InputError(f"there are no results at {out}: expected {path.name} written by analyze")
    tree, attributes = read_group(path)
    scan = tuple(int(n) for n in attributes.get("scan_shape", ()))
    pattern = tuple(int(n) for n in attributes.get("pattern_shape", ()))
    nodes = {"/": xarray.Dataset(attrs=attributes)}
    for name, fields in _groups(tree):
        variables = {
            key: xarray.Variable(
                _dimensions(key, np.shape(field.data), scan, pattern),
                field.data,
                {"units": field.units, "description": field.description},
            )
            for key, field in fields.items()
        }
        nodes[name] = nodes.get(name, xarray.Dataset()).assign(variables)
    return xarray.DataTree.from_dict(nodes)


def _groups(tree: Tree, name: str = "/") -> Iterator[tuple[str, dict[str, Field]]]:
    yield name, {key: item for key, item in tree.items() if isinstance(item, Field)}
    for key, item in tree.items():
        if isinstance(item, dict):
            yield from _groups(item, f"{name.rstrip('/')}/{key}")


def _dimensions(
    key: str, shape: tuple[int, ...], scan: tuple[int, ...], pattern: tuple[int, ...]
) -> list[str]:
    names = [f"{key}_{axis}" for axis in range(len(shape))]
    if scan and shape[:2] == scan:
        names[:2] = ["scan_y", "scan_x"]
    if pattern and shape[-2:] == pattern and "scan_x" not in names[-2:]:
        names[-2:] = ["det_y", "det_x"]
    return names


def _write(group: h5py.Group, tree: Tree) -> None:
    for name, item in tree.items():
        if isinstance(item, dict):
            _write(group.create_group(name), item)
            continue
        data = item.data if isinstance(item.data, str) else np.asarray(item.data)
        large = isinstance(data, np.ndarray) and data.nbytes >= COMPRESSED_FROM
        filters = {"compression": "gzip", "compression_opts": 1, "shuffle": True} if large else {}
        dataset = group.create_dataset(name, data=data, **filters)
        dataset.attrs.update(units=item.units, description=item.description)


def _read(group: h5py.Group) -> Tree:
    tree: Tree = {}
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            tree[name] = _read(item)
        else:
            data = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
            attributes = item.attrs
            tree[name] = Field(data, attributes.get("units", ""), attributes.get("description", ""))
    return tree
