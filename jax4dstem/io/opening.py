"""`open_dataset`: which reader, and what the file leaves open."""

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io import empad, hdf5, npy, rosetta, zarr_store
from jax4dstem.io.layout import Layout, Stored, as_source
from jax4dstem.io.readable import check_readable
from jax4dstem.io.scales import calibrate

HDF5_SUFFIXES = (".h5", ".hdf5", ".emd", ".hspy", ".nxs", ".nx5", ".py4dstem")


def open_dataset(
    path: str | Path,
    *,
    key: str | None = None,
    scan_shape: Sequence[int] | None = None,
    dtype: str | None = None,
    axes: str | None = None,
    frame_skip: int = 0,
    flyback: int = 0,
    detector_shape: Sequence[int] | None = None,
    crop_scan: Sequence[int] | None = None,
    crop_detector: Sequence[int] | None = None,
    bin_detector: int = 1,
    pixel_inv_angstrom: float | None = None,
    scan_step_nm: float | None = None,
    energy_kv: float | None = None,
) -> Dataset:
    """Open a 4D-STEM file; only its header is read.

    Shape, type, axes order and calibration are found where the format tells them; `Dataset.notes`
    says how each was decided. Everything can be given instead.

    Patterns are read in the machine's byte order; 64-bit integers become float32 and booleans uint8,
    the types JAX computes with.

    Args:
        path: HDF5 (EMD/py4DSTEM, NeXus, hspy, Arina-like, MATLAB v7.3 .mat), .npy, zarr/zspy, EMPAD
            .xml or .raw, bare .raw, and with the extra ``formats`` what RosettaSciIO reads.
        key: The dataset inside an HDF5 or zarr file, or the group that holds it.
        scan_shape: Rows and columns of the scan, for files that hold a stack of patterns.
        dtype: Stored type of a bare .raw file; elsewhere a type to convert to.
        axes: Stored order, such as ``"scan_x,scan_y,det_x,det_y"`` or ``"frame,det_y,det_x"``.
        frame_skip: Patterns of a stack before the first scan position.
        flyback: Patterns of a stack after each scan row that belong to no position.
        detector_shape: Rows and columns of a pattern in a bare .raw file.
        crop_scan: ``(y0, y1, x0, x1)`` rectangle of scan positions.
        crop_detector: ``(y0, y1, x0, x1)`` rectangle of detector pixels.
        bin_detector: Detector pixels to sum along each axis.
        pixel_inv_angstrom: Detector pixel in Å⁻¹ (before binning).
        scan_step_nm: Scan step in nm.
        energy_kv: Beam energy in kV.

    Returns:
        A lazy dataset.

    Raises:
        InputError: The file is missing, broken or ambiguous, or an option does not fit it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        ...     np.save(file.name, np.zeros((6, 8, 8), np.uint16))
        ...     scan = open_dataset(file.name, scan_shape=(2, 3), scan_step_nm=1.5)
        >>> scan.shape, scan.calibration.scan_step_nm
        ((2, 3, 8, 8), 1.5)
    """
    path = Path(path)
    check_readable(path)
    given = {
        "pixel_inv_angstrom": pixel_inv_angstrom,
        "scan_step_nm": scan_step_nm,
        "energy_kv": energy_kv,
    }
    layout = Layout(
        key,
        _integers("scan_shape", scan_shape, 2),
        dtype,
        axes,
        _not_negative("frame_skip", frame_skip),
        _not_negative("flyback", flyback),
        _integers("detector_shape", detector_shape, 2),
    )
    stored = reader_of(path)(path, layout)
    source, notes = as_source(stored, layout)
    told = {name: value for name, value in given.items() if value is not None}
    calibration, why = calibrate(((told, "given"), *stored.scales))
    dataset = Dataset(source, calibration, notes=(*stored.notes, *notes, *why), path=stored.path)
    if rectangle := _integers("crop_scan", crop_scan, 4):
        dataset = dataset.crop_scan(*rectangle)
    if rectangle := _integers("crop_detector", crop_detector, 4):
        dataset = dataset.crop_detector(*rectangle)
    return dataset.bin_detector(bin_detector)


def reader_of(path: Path) -> Callable[[Path, Layout], Stored]:
    """The reader for a file, by its first bytes or its name."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if suffix in (".zarr", ".zspy") or zarr_store.is_store(path):
            return zarr_store.read
        raise InputError(f"{path} is a directory; expected a file or a zarr store")
    if suffix in (".zarr", ".zspy"):
        return zarr_store.read
    if h5py.is_hdf5(path):
        return hdf5.read
    if suffix == ".mat":
        raise InputError(_why_no_matlab(path))
    if suffix in HDF5_SUFFIXES:
        raise InputError(f"{path} is no HDF5 file, or its beginning is damaged")
    if suffix == ".npy":
        return npy.read
    if suffix in (".raw", ".xml"):
        return empad.read
    return rosetta.read


def _why_no_matlab(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(10) == b"MATLAB 7.3":
            return f"{path} is truncated: a MATLAB v7.3 header without HDF5 data"
    return f"{path} is an old MATLAB file; save it again with save(..., '-v7.3')"


def _integers(name: str, values: Sequence[int] | None, count: int) -> tuple | None:
    if values is None:
        return None
    if len(values) != count:
        raise InputError(f"{name} {tuple(values)} has {len(values)} numbers; expected {count}")
    return tuple(int(value) for value in values)


def _not_negative(name: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{name} {value} is negative; expected 0 or more patterns")
    return value
