"""HDF5: EMD/py4DSTEM, NeXus, hspy, Arina-like, MATLAB v7.3, and any other with a key."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.layout import AXES_4D, Layout, Stored, as_source
from jax4dstem.io.sources import Concatenated

CHUNK_CACHE = 2**26  # bytes
STACK_PREFIX = "data_0"  # Dectris detectors write data_000001, data_000002, ...
TO_INV_ANGSTROM = {"1/Å": 1.0, "1/A": 1.0, "A^-1": 1.0, "Å^-1": 1.0, "1/nm": 0.1, "nm^-1": 0.1}
TO_NM = {"nm": 1.0, "Å": 0.1, "A": 0.1, "µm": 1e3, "um": 1e3, "pm": 1e-3, "m": 1e9}
PLAIN_NAMES = {
    "pixel_inv_angstrom": ("pixel_inv_angstrom", "q_pixel_invA", "q_pixel_inv_angstrom"),
    "scan_step_nm": ("scan_step_nm", "r_pixel_nm", "step_nm"),
    "energy_kv": ("energy_kV", "energy_kv", "beam_energy_kV", "accelerating_voltage_kV"),
}


def read(path: Path, layout: Layout) -> Dataset:
    """Open an HDF5 file."""
    _register_filters()
    try:
        with h5py.File(path, "r") as file:
            stored, found, notes = _find(file, path, layout)
            calibration, why = _calibration(file, found)
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged or truncated: {reason}") from error
    source, more = as_source(stored, layout)
    return Dataset(source, calibration, notes=(*notes, *more, *why), path=str(path))


def choose_key(
    found: Mapping[str, tuple[int, ...]], key: str | None, path: Path
) -> tuple[str, str]:
    """The dataset that is the scan, by name or because no other can be; and why.

    Args:
        found: Shapes by name of all numeric datasets.
        key: What the user named.
        path: For messages.

    Raises:
        InputError: The key is missing, nothing is a scan, or several could be.
    """
    if key is not None:
        key = key.strip("/")
        if key not in found:
            names = ", ".join(found) or "no numeric dataset"
            raise InputError(f"{path} has no dataset {key!r}; it has {names}")
        return key, f"dataset {key}: given"
    for dimensions in (4, 3):
        candidates = [name for name, shape in found.items() if len(shape) == dimensions]
        if len(candidates) > 1 and dimensions == 4:
            data = [name for name in candidates if name.rpartition("/")[2] == "data"]
            candidates = data if len(data) == 1 else candidates
        if len(candidates) == 1:
            name = candidates[0]
            largest = max(found, key=lambda other: prod(found[other]))
            if prod(found[name]) < prod(found[largest]) / 2:
                raise InputError(
                    f"{path}: the largest dataset {largest} has {len(found[largest])} axes "
                    f"{found[largest]}, no scan; name the one to read with key"
                )
            return name, f"dataset {name}: the only one with {dimensions} axes"
        if candidates:
            names = ", ".join(f"{name} {found[name]}" for name in candidates)
            raise InputError(f"{path} holds several possible scans, choose one with key: {names}")
    names = ", ".join(f"{name} {shape}" for name, shape in found.items()) or "nothing"
    raise InputError(f"{path} holds no dataset with 4 (or 3) axes; it has {names}")


def axes_calibration(axes: list[Any]) -> tuple[Calibration, tuple[str, ...]]:
    """Calibration from descriptions of axes with name, scale, units and navigate."""
    pixel = step = None
    for axis in axes:
        try:
            scale, units = float(axis.get("scale", 1.0)), str(axis.get("units", ""))
        except (TypeError, ValueError, AttributeError):
            continue
        if units in TO_INV_ANGSTROM:
            pixel = abs(scale) * TO_INV_ANGSTROM[units]
        elif units in TO_NM and bool(axis.get("navigate", False)):
            step = abs(scale) * TO_NM[units]
    return _noted(pixel, step, None, "the axes in the file")


def _noted(
    pixel: float | None, step: float | None, energy: float | None, source: str
) -> tuple[Calibration, tuple[str, ...]]:
    notes = []
    if pixel is not None:
        notes.append(f"detector pixel {pixel:g} 1/Å: from {source}")
    if step is not None:
        notes.append(f"scan step {step:g} nm: from {source}")
    if energy is not None:
        notes.append(f"beam energy {energy:g} kV: from {source}")
    return Calibration(pixel, step, energy), tuple(notes)


def _register_filters() -> None:
    """Make hdf5plugin's compression filters known where the extra is installed."""
    try:
        import_module("hdf5plugin")
    except ImportError:
        return


def _find(file: Any, path: Path, layout: Layout) -> tuple[Stored, Any, tuple[str, ...]]:
    found = {name: item for name, item in _datasets(file) if item.dtype.kind in "buif"}
    shapes = {name: item.shape for name, item in found.items()}
    stacks = [n for n in shapes if n.rpartition("/")[2].startswith(STACK_PREFIX)]
    if layout.key is None and stacks and all(len(shapes[n]) == 3 for n in stacks):
        names = tuple(sorted(stacks))
        lengths = tuple(shapes[n][0] for n in names)
        first = found[names[0]]
        shape = (sum(lengths), *first.shape[1:])
        note = f"datasets {names[0]} to {names[-1]}: one stack in {len(names)} parts"
        opener = _opener(path, names, lengths)
        return Stored(opener, shape, first.dtype, first.chunks, name=path.name), first, (note,)
    if layout.key is None and (default := _nexus_default(file)) in shapes:
        key, why = str(default), f"dataset {default}: the file's default signal"
    else:
        key, why = choose_key(shapes, layout.key, path)
    item = found[key]
    axes, notes = None, [why]
    if "MATLAB_class" in item.attrs and len(item.shape) == 4:
        axes = ("scan_x", "scan_y", "det_x", "det_y")
        notes.append(f"axes {', '.join(axes)}: MATLAB stores arrays with reversed axes")
    elif layout.axes is None and len(item.shape) == 4:
        notes.append(f"axes {', '.join(AXES_4D)}: C order, as stored")
        axes = AXES_4D
    opener = _opener(path, (key,), (item.shape[0],))
    stored = Stored(opener, item.shape, item.dtype, item.chunks, axes, _scan_shape(item), key)
    return stored, item, tuple(notes)


def _datasets(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All datasets below a group, links to other files included; a link that leads nowhere is skipped."""
    for name in group:
        try:
            item = group[name]
        except (KeyError, OSError):
            continue
        if isinstance(item, h5py.Dataset):
            yield prefix + name, item
        elif isinstance(item, h5py.Group):
            yield from _datasets(item, f"{prefix}{name}/")


def _opener(path: Path, keys: tuple[str, ...], lengths: tuple[int, ...]) -> Any:
    @contextmanager
    def open_array() -> Iterator[Any]:
        with h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE) as file:
            yield file[keys[0]] if len(keys) == 1 else Concatenated(file, keys, lengths)

    return open_array


def _nexus_default(file: Any) -> str | None:
    """Path of the default signal of a NeXus file, if it says so."""
    group: Any = file
    while "default" in group.attrs and _text(group.attrs["default"]) in group:
        group = group[_text(group.attrs["default"])]
    if isinstance(group, h5py.Group) and "signal" in group.attrs:
        return f"{group.name}/{_text(group.attrs['signal'])}".strip("/")
    return None


def _scan_shape(item: Any) -> tuple[int, int] | None:
    """A scan shape noted beside a stack of patterns."""
    for attributes in (item.attrs, item.parent.attrs):
        value = attributes.get("scan_shape")
        if value is not None and np.size(value) == 2:
            return int(value[0]), int(value[1])
    return None


def _calibration(file: Any, item: Any) -> tuple[Calibration, tuple[str, ...]]:
    """Scales from plain attributes, hspy axes, or EMD dimension vectors; whichever the file has."""
    plain = {
        name: _first_number((item.attrs, item.parent.attrs, file.attrs), names)
        for name, names in PLAIN_NAMES.items()
    }
    if any(value is not None for value in plain.values()):
        pixel, step, energy = (plain[name] for name in PLAIN_NAMES)
        return _noted(pixel, step, energy, "attributes in the file")
    axes = [
        {key: _text(value) for key, value in group.attrs.items()}
        for name, group in item.parent.items()
        if name.startswith("axis-") and isinstance(group, h5py.Group)
    ]
    if axes:
        for axis in axes:
            axis["navigate"] = str(axis.get("navigate")) in ("True", "1")
        return axes_calibration(axes)
    vectors = [item.parent.get(f"dim{axis}") for axis in range(4)]
    if all(isinstance(vector, h5py.Dataset) and vector.size > 1 for vector in vectors):
        described = [
            {
                "scale": float(vector[1] - vector[0]),
                "units": _text(vector.attrs.get("units", "")).strip("[]"),
                "navigate": axis < 2,
            }
            for axis, vector in enumerate(vectors)
        ]
        return axes_calibration(described)
    return Calibration(), ()


def _first_number(sources: tuple[Any, ...], names: tuple[str, ...]) -> float | None:
    for attributes in sources:
        for name in names:
            if name in attributes:
                try:
                    return float(_text(attributes[name]))
                except (TypeError, ValueError):
                    continue
    return None


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
