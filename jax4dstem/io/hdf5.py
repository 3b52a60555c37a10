"""HDF5: EMD/py4DSTEM, NeXus, hspy, Arina-like, MATLAB v7.3, and any other with a key."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem.errors import InputError
from jax4dstem.io import finding
from jax4dstem.io.axes import MATLAB_ORDER
from jax4dstem.io.finding import could_hold_patterns
from jax4dstem.io.hdf5_scales import attribute, axes_of, get, scales_of, scan_shape_of
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.sources import Concatenated, Opener

CHUNK_CACHE = 2**26  # bytes, unless a single chunk is larger
PIXEL_MASK = "pixel_mask"  # NeXus and Dectris: a number per pixel, not 0 where it cannot be used
STACK_PREFIX = "data_0"  # Dectris detectors write data_000001, data_000002, ...
MATLAB_HEAP = (
    "#refs#/"  # where MATLAB puts the contents of cells and structures, thousands of small arrays
)
CROWD = 1000  # members of a group that is no list of scans
DEFAULT_DEPTH = 8  # NeXus groups that may each name the next as default


def read(path: Path, layout: Layout) -> Stored:
    """Find the scan in an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            return replace(_find(file, path, layout), pixel_mask=_pixel_mask(file))
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged or truncated: {reason}") from error


def _find(file: h5py.File, path: Path, layout: Layout) -> Stored:
    items, dangling = _datasets(file)
    numeric = _numeric(items)
    if layout.key is not None and isinstance(named := get(file, layout.key), h5py.Dataset):
        numeric = {layout.key.strip("/"): named}  # by any of its names, whatever its type
    if items and not numeric:
        told = ", ".join(f"{name} {item.shape} {item.dtype}" for name, item in items.items())
        raise InputError(f"{path} holds no array of real numbers, but {told}")
    shapes = {name: item.shape for name, item in numeric.items()}
    if layout.key is not None:
        return _stored(file, path, *finding.choose(shapes, layout.key, path))
    lost = [name for name in dangling if _is_part(name) or not numeric]
    if lost:
        raise InputError(f"{path} links to data that are not there: {', '.join(lost)}")
    parts = sorted(name for name in shapes if _is_part(name))
    if parts and all(len(shapes[name]) == 3 for name in parts):
        return _stack(file, path, parts)
    signal = _signal(file, shapes)
    if signal is not None:
        return _stored(file, path, signal, f"dataset {signal}: the file's default signal")
    return _stored(file, path, *finding.choose(shapes, None, path))


def _pixel_mask(file: h5py.File) -> np.ndarray | None:
    """The first mask of pixels in a file: one image, or one for every module of the detector, which is not read."""
    found: list[h5py.Dataset] = []

    def look(name: str, item: Any) -> bool | None:
        if name.rpartition("/")[2] == PIXEL_MASK and isinstance(item, h5py.Dataset):
            found.append(item)
            return True
        return None

    file.visititems(look)
    image = found and found[0].ndim == 2 and found[0].dtype.kind in "bui"
    return np.asarray(found[0][()]) != 0 if image else None


def _numeric(items: dict[str, Any]) -> dict[str, Any]:
    """Arrays of numbers that could hold patterns, or where there is none all arrays of numbers."""
    likely = {name: item for name, item in items.items() if could_hold_patterns(item.shape)}
    numbers = {name: item for name, item in likely.items() if item.dtype.kind in "buif"}
    return numbers or {name: item for name, item in items.items() if item.dtype.kind in "buif"}


def _stored(file: h5py.File, path: Path, name: str, why: str) -> Stored:
    item: Any = file[name]
    matlab = MATLAB_ORDER.get(len(item.shape)) if "MATLAB_class" in item.attrs else None
    return Stored(
        _opener(path, item, name),
        item.shape,
        item.dtype,
        str(path),
        name,
        chunks=item.chunks,
        axes=matlab and (matlab, "MATLAB stores arrays with reversed axes"),
        axes_told=axes_of(item),
        scan_shape=scan_shape_of(file, item),
        scales=scales_of(file, item),
        notes=(why,),
    )


def _stack(file: h5py.File, path: Path, names: list[str]) -> Stored:
    """Parts of one stack of patterns, by detectors that start a new dataset now and then."""
    shapes = {name: file[name].shape for name in names}  # type: ignore[union-attr]
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise InputError(f"{path} holds parts of different shapes: {finding.told(shapes)}")
    lengths = tuple(shape[0] for shape in shapes.values())
    first = _stored(file, path, names[0], "")

    @contextmanager
    def open_parts() -> Iterator[Concatenated]:
        with h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE) as file:
            yield Concatenated(tuple(file[name] for name in names), lengths)

    return replace(
        first,
        open=open_parts,
        shape=(sum(lengths), *first.shape[1:]),
        name=path.name,
        notes=(f"datasets {names[0]} to {names[-1]}: one stack in {len(names)} parts",),
    )


def _opener(path: Path, item: Any, name: str) -> Opener:
    """Opens the dataset for one read: no file stays open, and any thread may read."""
    _check_filters(item)
    cache = max(CHUNK_CACHE, prod(item.chunks or (0,)) * item.dtype.itemsize)

    @contextmanager
    def open_dataset() -> Iterator[Any]:
        with h5py.File(path, "r", rdcc_nbytes=cache) as file:
            yield file[name]

    return open_dataset


def _check_filters(item: Any) -> None:
    """Load hdf5plugin when a compression filter is missing.

    Raises:
        InputError: It is still missing.
    """
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(i) for i in range(properties.get_nfilters())]
    codes = [code for code, *_ in filters if not h5py.h5z.filter_avail(code)]
    if codes:
        with suppress(ImportError):
            import_module("hdf5plugin")
    missing = [code for code in codes if not h5py.h5z.filter_avail(code)]
    if missing:
        raise InputError(
            f"{item.name} is compressed with HDF5 filter {missing[0]}, which is not installed: "
            "pip install 'jax4dstem[compression]'"
        )


def _datasets(file: h5py.File) -> tuple[dict[str, Any], list[str]]:
    """All datasets, each under one name, links to other files included; and links that lead nowhere.

    Groups of very many members are left out where the rest of the file cannot hold another scan.
    """
    found: dict[str, Any] = {}
    dangling: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, Any]] = [("", file)]
    crowded: list[tuple[str, Any]] = []
    while waiting:
        prefix, group = waiting.pop(0)
        if prefix.startswith(MATLAB_HEAP) or len(group) > CROWD:
            crowded.append((prefix, group))
        else:
            waiting += _look_into(group, prefix, found, dangling, seen)
    if not _is_accounted_for(file, found):
        while crowded:
            prefix, group = crowded.pop(0)
            crowded += _look_into(group, prefix, found, dangling, seen)
    return found, dangling


def _look_into(
    group: Any, prefix: str, found: dict[str, Any], dangling: list[str], seen: set[tuple[int, int]]
) -> list[tuple[str, Any]]:
    """Add a group's datasets to those found; return its groups."""
    groups = []
    for name in group:
        link = name.encode("utf-8", "surrogateescape")
        try:
            info = h5py.h5o.get_info(group.id, link)  # opens nothing: members may be many
        except (KeyError, OSError, ValueError):
            dangling.append(prefix + name)
            continue
        if (info.fileno, info.addr) in seen:  # a second name, or a link back to a parent
            continue
        seen.add((info.fileno, info.addr))
        if info.type == h5py.h5o.TYPE_DATASET:
            found[prefix + name] = h5py.Dataset(h5py.h5d.open(group.id, link))
        elif info.type == h5py.h5o.TYPE_GROUP:
            groups.append((f"{prefix}{name}/", group[name]))
    return groups


def _is_accounted_for(file: h5py.File, found: dict[str, Any]) -> bool:
    """Whether what is not yet looked at is less than half of a scan that is found, or MATLAB's heap."""
    scans = [item for item in found.values() if item.ndim > 2 and could_hold_patterns(item.shape)]
    if not scans:
        return False
    sizes = [item.id.get_storage_size() for item in found.values()]
    rest = file.id.get_filesize() - sum(sizes)
    return MATLAB_HEAP.strip("/") in file or rest < max(s.id.get_storage_size() for s in scans) / 2


def _is_part(name: str) -> bool:
    return name.rpartition("/")[2].startswith(STACK_PREFIX)


def _signal(file: h5py.File, shapes: finding.Shapes) -> str | None:
    """The scan that a NeXus file calls its signal: of the default group, or of the only one."""
    signals = []
    for name, shape in shapes.items():
        parent, _, leaf = name.rpartition("/")
        if len(shape) in (3, 4) and attribute(file[f"/{parent}"], "signal") == leaf:
            signals.append(name)
    group: Any = file
    for _ in range(DEFAULT_DEPTH):
        following = get(group, str(attribute(group, "default")))
        if not isinstance(following, h5py.Group):
            break
        group = following
    default = f"{group.name}/{attribute(group, 'signal')}".strip("/")
    if default in signals:
        return default
    return signals[0] if len(signals) == 1 else None
