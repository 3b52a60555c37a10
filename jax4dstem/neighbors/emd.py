"""EMD 1.0 files as py4DSTEM reads them: patterns, calibration, Bragg disks and strain, written by h5py alone."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem._version import __version__
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.whole import written_whole
from jax4dstem.neighbors.bragg import FittedDisks
from jax4dstem.neighbors.export import make_folder
from jax4dstem.neighbors.py4dstem import to_py4dstem_calibration
from jax4dstem.strain import StrainMap, to_py4dstem
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Array, Num

ROOT = "datacube_root"
DISK = np.dtype([("qx", "<f8"), ("qy", "<f8"), ("intensity", "<f8")])
METADATA_TYPES = {bool: "bool", str: "string", float: "number", int: "number", tuple: "tuple"}


def write_emd(
    path: str | Path,
    scan: Dataset,
    *,
    patterns: bool = True,
    center: np.ndarray | None = None,
    disks: FittedDisks | None = None,
    strain: StrainMap | None = None,
    overwrite: bool = False,
    progress: str | None = None,
) -> Path:
    """Write a scan, and what was found in it, as a file that py4DSTEM opens.

    ``py4DSTEM.read`` gives a ``DataCube`` with our calibration, below it ``braggvectors``, on which its strain map works, and
    ``strainmap``, a ``RealSlice`` with our strain in its conventions (see `strain.to_py4dstem`). Patterns are written as the
    dataset's chain makes them, tile by tile.

    Args:
        path: The file, ``.h5`` or ``.emd``.
        scan: Patterns and calibration.
        patterns: Whether the patterns are written; without them disks and strain are.
        center: Of the direct beam, ``(scan_y, scan_x, 2)`` (y, x) in px; by default that of the disks.
        disks: As `fitted_disks` gives them.
        strain: Of the same scan.
        overwrite: Replace a file that is there.
        progress: Label of the progress bar, shown on a terminal.

    Returns:
        The file.

    Raises:
        InputError: The file is there, an array does not have the shape of the scan, or there is nothing to write.
        OutputError: The file cannot be written; an older one is left as it was.

    Example:
        >>> import tempfile
        >>> from jax4dstem import open_dataset
        >>> scan = Dataset.from_array(np.ones((2, 3, 8, 8), np.uint16)).with_calibration(pixel_inv_angstrom=0.02, scan_rotation=0.3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = open_dataset(write_emd(f"{folder}/scan.emd", scan))
        >>> again.shape, round(again.calibration.scan_rotation, 6)
        ((2, 3, 8, 8), 0.3)
    """
    path = Path(path)
    if center is None and disks is not None:
        center = disks.center
    _check(path, scan, patterns, center, disks, strain, overwrite)
    with written_whole(path) as unfinished, h5py.File(unfinished, "w") as file:
        _mark(file, "file", version_major=1, version_minor=0, authoring_program=f"jax4dstem {__version__}")  # fmt: skip
        root = _group(file, ROOT, "root", "Root")
        parent = _write_patterns(root, scan, progress) if patterns else root
        if disks is not None:
            _write_disks(parent, scan, disks)
        if strain is not None:
            _write_strain(parent, scan, strain)
        _write_calibration(root, scan, center)
    return path


def _check(
    path: Path,
    scan: Dataset,
    patterns: bool,
    center: np.ndarray | None,
    disks: FittedDisks | None,
    strain: StrainMap | None,
    overwrite: bool,
) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path} is already there; overwrite=True replaces it")
    if not patterns and disks is None and strain is None:
        raise InputError("nothing to write: give patterns, disks or strain")
    shapes = {
        "disks": None if disks is None else disks.intensity.shape[:2],
        "center": None if center is None else center.shape[:2],
        "strain": None if strain is None else strain.e_xx.shape,
    }
    for name, shape in shapes.items():
        if shape not in (None, scan.scan_shape):
            raise InputError(f"{name} are of a scan of {shape} positions, not {scan.scan_shape}")
    make_folder(path.absolute().parent)


def _write_patterns(root: h5py.Group, scan: Dataset, progress: str | None) -> h5py.Group:
    cube = _group(root, "datacube", "array", "DataCube")
    map_patterns(_as_data, scan, out=cube, progress=progress)
    cube["data"].attrs["units"] = "pixel intensity"
    if scan.calibration.energy_kv is not None:
        cube.attrs["energy_kv"] = scan.calibration.energy_kv
    pixel, pixel_unit = scan.calibration.reciprocal_units
    pixel_y = scan.calibration.pixel_y_inv_angstrom or pixel
    unit = "A^-1" if pixel_unit != "px" else "pixels"
    _write_scan_axes(cube, scan)
    for number, name, size in ((2, "Qx", pixel_y), (3, "Qy", pixel)):
        _axis(cube, number, name, size, unit, scan.pattern_shape[number - 2])
    return cube


def _as_data(pattern: Num[Array, "det_y det_x"]) -> dict[str, Array]:
    """Pattern function: the pattern itself, under the name that EMD has for it."""
    return {"data": pattern}


def _write_disks(parent: h5py.Group, scan: Dataset, disks: FittedDisks) -> None:
    group = _group(parent, "braggvectors", "custom", "BraggVectors")
    lists = _group(group, "_v_uncal", "custom_pointlistarray", "PointListArray")
    stored = lists.create_dataset("data", scan.scan_shape, h5py.vlen_dtype(DISK))
    for at in np.ndindex(scan.scan_shape):
        there = np.isfinite(disks.intensity[at])
        listed = np.empty(int(there.sum()), DISK)
        listed["qx"], listed["qy"] = disks.position[at][there].T  # their x is along rows
        listed["intensity"] = disks.intensity[at][there]
        stored[at] = listed
    shapes = {"Rshape": scan.scan_shape, "Qshape": tuple(scan.pattern_shape)}
    _metadata(group, "_braggvectors_shape", "Metadata", shapes)


def _write_strain(parent: h5py.Group, scan: Dataset, strain: StrainMap) -> None:
    maps = to_py4dstem(strain)
    group = _group(parent, "strainmap", "array", "RealSlice")
    group["data"] = np.stack(list(maps.values()))
    group["data"].attrs["units"] = "intensity"
    _write_scan_axes(group, scan)
    group["dim2"] = np.array(list(maps), dtype=h5py.string_dtype())
    group["dim2"].attrs["name"] = "_labels_"


def _write_calibration(root: h5py.Group, scan: Dataset, center: np.ndarray | None) -> None:
    entries = to_py4dstem_calibration(scan.calibration) | {"_root_treepath": ""}
    if center is not None:
        for name, values in (("qx0", center[..., 0]), ("qy0", center[..., 1])):
            mean = float(np.nanmean(values))
            known = np.where(np.isfinite(values), values, mean)
            entries |= {name: known, f"{name}_mean": mean, f"{name}_shift": known - mean}
    calibration = _metadata(root, "calibration", "Calibration", entries)
    calibrated = [
        item.name.removeprefix(root.name)
        for item in (
            root.get("datacube"),
            root.get("datacube/braggvectors"),
            root.get("braggvectors"),
        )
        if item is not None
    ]
    targets = calibration.create_group("_target_paths")
    targets.attrs.update(type="list_of_strings", length=len(calibrated))
    for number, path in enumerate(calibrated):
        targets[str(number)] = path


def _metadata(
    parent: h5py.Group, name: str, python_class: str, entries: dict[str, Any]
) -> h5py.Group:
    bundle = _group(parent, "metadatabundle", "metadatabundle", None)
    group = _group(bundle, name, "metadata", python_class)
    for key, value in entries.items():
        group[key] = value
        group[key].attrs["type"] = METADATA_TYPES.get(type(value), "array")
    return group


def _write_scan_axes(group: h5py.Group, scan: Dataset) -> None:
    steps, unit = scan.calibration.scan_steps
    for i, (name, size) in enumerate(zip(("Rx", "Ry"), steps, strict=True)):
        told = unit if unit == "nm" else "pixels"
        _axis(group, i, name, size, told, scan.scan_shape[i])


def _axis(group: h5py.Group, number: int, name: str, size: float, unit: str, count: int) -> None:
    group[f"dim{number}"] = size * np.arange(count, dtype=float)
    group[f"dim{number}"].attrs.update(name=name, units=unit)


def _group(parent: h5py.Group, name: str, kind: str, python_class: str | None) -> h5py.Group:
    group = parent.create_group(name)
    _mark(group, kind, **({} if python_class is None else {"python_class": python_class}))
    return group


def _mark(group: h5py.Group, kind: str, **attributes: Any) -> None:
    group.attrs.update(emd_group_type=kind, **attributes)
