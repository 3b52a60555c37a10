"""zarr and zspy stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io import finding
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.scales import Axis, from_attributes


def is_store(path: Path) -> bool:
    """Whether a directory is a zarr store."""
    return any((path / name).exists() for name in (".zarray", ".zgroup", "zarr.json"))


def read(path: Path, layout: Layout) -> Stored:
    """Find the scan in a zarr store: the array that it is, or one in its groups."""
    root = _open(path)
    if hasattr(root, "shape"):
        if layout.key is not None:
            raise InputError(f"{path} is a single array; open it without key")
        array, group, why = root, None, "format: zarr array"
    else:
        found = dict(_arrays(root))
        shapes = {name: item.shape for name, item in found.items() if item.dtype.kind in "buif"}
        key, why = finding.choose(shapes, layout.key, path)
        parent = key.rpartition("/")[0]
        array, group = found[key], root[parent] if parent else root

    @contextmanager
    def open_array() -> Iterator[Any]:
        yield array

    return Stored(
        open_array,
        array.shape,
        np.dtype(array.dtype),
        str(path),
        path.name,
        chunks=array.chunks,
        axes_told=_axes(array, group),
        scales=(from_attributes(dict(array.attrs), {} if group is None else dict(group.attrs)),),
        notes=(why,),
    )


def _open(path: Path) -> Any:
    try:
        import zarr
        from zarr.storage import ZipStore
    except ImportError as error:
        raise InputError(f"{path} needs zarr: pip install 'jax4dstem[zarr]'") from error
    try:
        if path.is_file():  # a store in a zip file, whatever it is called
            return zarr.open(ZipStore(str(path), mode="r"), mode="r")
        return zarr.open(str(path), mode="r")
    except Exception as error:  # zarr's own errors differ between versions
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is no readable zarr store: {reason}") from error


def _arrays(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in group.arrays():
        yield prefix + name, item
    for name, item in group.groups():
        yield from _arrays(item, f"{prefix}{name}/")


def _axes(array: Any, group: Any) -> tuple[Axis, ...]:
    """The axes that HyperSpy writes as groups; nothing where one lacks."""
    names = [f"axis-{number}" for number in range(array.ndim)]
    if group is None or not all(name in group for name in names):
        return ()
    return tuple(
        Axis(group[name].attrs.get("scale"), group[name].attrs.get("units")) for name in names
    )
