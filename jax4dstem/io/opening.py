"""`open_dataset`: which reader, and what the file leaves open."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem.dataset import Dataset, Doubt
from jax4dstem.errors import InputError
from jax4dstem.io import empad, frames, hdf5, npy, rosetta, tiff, zarr_store
from jax4dstem.io.layout import Layout, Stored, as_scan
from jax4dstem.io.readable import check_readable
from jax4dstem.io.scales import Told, calibrate

HDF5_SUFFIXES = (".h5", ".hdf5", ".emd", ".hspy", ".nxs", ".nx5", ".py4dstem")


def open_dataset(
    path: str | Path,
    *,
    key: str | None = None,
    index: int | None = None,
    scan_shape: Sequence[int] | None = None,
    dtype: str | None = None,
    axes: str | None = None,
    frame_skip: int = 0,
    flyback: int = 0,
    detector_shape: Sequence[int] | None = None,
    header_bytes: int = 0,
    gap_bytes: int = 0,
    footer_bytes: int = 0,
    crop_scan: Sequence[int] | None = None,
    crop_detector: Sequence[int] | None = None,
    bin_detector: int = 1,
    pixel_inv_angstrom: float | None = None,
    scan_step_nm: float | None = None,
    energy_kv: float | None = None,
    scan_rotation: float | None = None,
    scan_flip: bool | None = None,
    ellipse: tuple[float, float] | None = None,
    pixel_y_inv_angstrom: float | None = None,
    scan_step_y_nm: float | None = None,
) -> Dataset:
    """Open a 4D-STEM file; only its header is read.

    Shape, type, axes order and calibration are found where the format tells them; `Dataset.notes`
    says how each was decided, `Dataset.doubts` where that may be wrong. Everything can be given instead.

    Where the file ends before the scan does (more than half of it is there), the missing patterns are blank, or NaN in
    floating point, and left out of every answer; `Dataset.missing` says which.

    Patterns are read in the machine's byte order; 64-bit integers become float32 and booleans uint8,
    the types JAX computes with.

    Args:
        path: HDF5 (EMD/py4DSTEM, NeXus, hspy, Arina-like, MATLAB v7.3 .mat), .npy, .npz, zarr/zspy, EMPAD
            .xml or .raw, bare .raw, and with the extra ``formats`` .tif and what RosettaSciIO reads.
        key: The dataset inside an HDF5, zarr or .npz file, or the group that holds it.
        index: Which scan of a series (an array with 5 axes), from 0.
        scan_shape: Rows and columns of the scan, for files that hold a stack of patterns.
        dtype: Stored type of a bare .raw file (of any suffix, with detector_shape); elsewhere a type to convert to.
        axes: Stored order, such as ``"scan_x,scan_y,det_x,det_y"`` or ``"frame,det_y,det_x"``.
        frame_skip: Patterns of a stack before the first scan position.
        flyback: Patterns of a stack after each scan row that belong to no position.
        detector_shape: Rows and columns of a pattern in a bare .raw file.
        header_bytes: In a bare .raw file, bytes before the first pattern.
        gap_bytes: Bytes after each of its patterns; after the last there may be fewer.
        footer_bytes: Bytes after all.
        crop_scan: ``(y0, y1, x0, x1)`` rectangle of scan positions.
        crop_detector: ``(y0, y1, x0, x1)`` rectangle of detector pixels.
        bin_detector: Detector pixels to sum along each axis.
        pixel_inv_angstrom: Detector pixel in Å⁻¹ (before binning).
        scan_step_nm: Scan step in nm.
        energy_kv: Beam energy in kV.
        scan_rotation: Rotation from scan to detector axes in radians.
        scan_flip: Whether the detector's y axis is mirrored against the scan.
        ellipse: (a, b) of the projector lenses' distortion; see `Calibration`.
        pixel_y_inv_angstrom: Detector pixel along y where it differs; together with the one along x.
        scan_step_y_nm: Distance between scan rows where it differs from that between columns, which must be given too.

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
        "pixel_inv_angstrom": _pair("pixel", pixel_y_inv_angstrom, pixel_inv_angstrom),
        "scan_step_nm": _pair("scan_step", scan_step_y_nm, scan_step_nm),
        "energy_kv": energy_kv,
        "scan_rotation": scan_rotation,
        "scan_flip": scan_flip,
        "ellipse": ellipse,
    }
    layout = Layout(
        key,
        _integers("scan_shape", scan_shape, 2),
        dtype,
        axes,
        _not_negative("frame_skip", frame_skip),
        _not_negative("flyback", flyback),
        _integers("detector_shape", detector_shape, 2),
        None if index is None else _not_negative("index", index),
        _not_negative("header_bytes", header_bytes),
        _not_negative("gap_bytes", gap_bytes),
        _not_negative("footer_bytes", footer_bytes),
    )
    read = reader_of(path, layout)
    if key is not None and read not in KEYED:
        raise InputError(f"{path} has no named datasets: leave key out (got {key!r})")
    stored = read(path, layout)
    scan = as_scan(stored, layout)
    told = {name: value for name, value in given.items() if value is not None}
    calibration, why = calibrate((Told(told, "given"), *scan.scales))
    mask, told_of_mask = _mask(stored, scan.source.shape[2:])
    notes = (*stored.notes, *scan.notes, *why, *told_of_mask)
    dataset = Dataset(scan.source, calibration, notes=notes, path=stored.path, mask=mask)
    if rectangle := _integers("crop_scan", crop_scan, 4):
        dataset = dataset.crop_scan(*rectangle)
    if rectangle := _integers("crop_detector", crop_detector, 4):
        dataset = dataset.crop_detector(*rectangle)
    return dataset.bin_detector(bin_detector)


def _mask(stored: Stored, detector: tuple[int, ...]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The file's mask of pixels where it fits the detector, and what is to be said of it."""
    mask = stored.pixel_mask
    if mask is None:
        return None, ()
    if mask.shape != detector:
        return None, (Doubt(f"pixel mask of {mask.shape} px does not fit the detector: ignored"),)
    return mask, (f"{int(mask.sum())} masked pixels: pixel_mask in the file",)


# Readers of files that hold several arrays by name.
KEYED = (hdf5.read, zarr_store.read, npy.read_npz)


def reader_of(path: Path, layout: Layout) -> Callable[[Path, Layout], Stored]:
    """The reader for a file, by its first bytes, its name, or because it is told to be bare."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if suffix in (".zarr", ".zspy") or zarr_store.is_store(path):
            return zarr_store.read
        raise InputError(f"{path} is a directory; expected a file or a zarr store")
    if suffix in (".zarr", ".zspy"):
        return zarr_store.read
    if h5py.is_hdf5(path):
        return hdf5.read
    with path.open("rb") as file:
        if file.read(len(npy.MAGIC)) == npy.MAGIC:
            return npy.read
    if suffix == ".mat":
        raise InputError(_why_no_matlab(path))
    if suffix in HDF5_SUFFIXES:
        raise InputError(f"{path} is no HDF5 file, or its beginning is damaged")
    if suffix in (".npy", ".npz"):
        return npy.read if suffix == ".npy" else npy.read_npz
    if suffix in (".raw", ".xml"):
        return empad.read
    if layout.is_raw:
        return frames.read
    if suffix in tiff.SUFFIXES:
        return tiff.read
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


def _pair(name: str, y: float | None, x: float | None) -> Any:
    """A length along y and x, or one for both."""
    if y is None:
        return x
    if x is None:
        raise InputError(f"calibration.{name}_y needs calibration.{name}, the one along x")
    return y, x


def _not_negative(name: str, value: int) -> int:
    if value < 0:
        raise InputError(f"{name} {value} is negative; expected 0 or more")
    return value
