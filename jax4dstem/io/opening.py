"""`open_dataset`: which reader, and what the file leaves open."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io import empad, hdf5, npy, rosetta, zarr_store
from jax4dstem.io.layout import Layout

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def open_dataset(
    path: str | Path,
    *,
    key: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    dtype: str | None = None,
    axes: str | None = None,
    frame_skip: int = 0,
    flyback: int = 0,
    detector_shape: tuple[int, int] | None = None,
    crop_scan: tuple[int, int, int, int] | None = None,
    crop_detector: tuple[int, int, int, int] | None = None,
    bin_detector: int = 1,
    pixel_inv_angstrom: float | None = None,
    scan_step_nm: float | None = None,
    energy_kv: float | None = None,
) -> Dataset:
    """Open a 4D-STEM file; only its header is read.

    Shape, type, axes order and calibration are found where the format tells them; `Dataset.notes`
    says how each was decided. Everything can be given instead.

    Args:
        path: HDF5 (EMD/py4DSTEM, NeXus, hspy, Arina-like, MATLAB v7.3 .mat), .npy, zarr/zspy, EMPAD
            .xml or .raw, bare .raw, and with the extra ``formats`` what RosettaSciIO reads.
        key: The dataset inside an HDF5 or zarr file.
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
    """
    path = Path(path)
    check_readable(path)
    layout = Layout(key, scan_shape, dtype, axes, frame_skip, flyback, detector_shape)
    opened = reader_of(path)(path, layout)
    given = {
        "pixel_inv_angstrom": pixel_inv_angstrom,
        "scan_step_nm": scan_step_nm,
        "energy_kv": energy_kv,
    }
    dataset = _calibrate(opened, {name: v for name, v in given.items() if v is not None})
    if crop_scan is not None:
        dataset = dataset.crop_scan(*crop_scan)
    if crop_detector is not None:
        dataset = dataset.crop_detector(*crop_detector)
    return dataset.bin_detector(bin_detector)


def check_readable(path: Path) -> None:
    """Raise InputError unless the file is there and may be read."""
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if not os.access(path, os.R_OK):
        raise InputError(f"no permission to read {path}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")


def reader_of(path: Path) -> Callable[[Path, Layout], Dataset]:
    """The reader for a file, by its first bytes or its name."""
    suffix = path.suffix.lower()
    if path.is_dir():
        if suffix in (".zarr", ".zspy") or zarr_store.is_store(path):
            return zarr_store.read
        raise InputError(f"{path} is a directory; expected a file or a zarr store")
    if suffix in (".zarr", ".zspy"):
        return zarr_store.read
    with path.open("rb") as file:
        magic = file.read(8)
    if magic == HDF5_MAGIC or h5py.is_hdf5(path):
        return hdf5.read
    if suffix == ".mat":
        if magic.startswith(b"MATLAB 7"):
            raise InputError(f"{path} is truncated: a MATLAB v7.3 header without HDF5 data")
        raise InputError(f"{path} is an old MATLAB file; save it again with save(..., '-v7.3')")
    if suffix in (".h5", ".hdf5", ".emd", ".hspy", ".nxs", ".nx5"):
        raise InputError(f"{path} is no HDF5 file, or its beginning is damaged")
    if suffix == ".npy":
        return npy.read
    if suffix in (".raw", ".xml"):
        return empad.read
    return rosetta.read


def _calibrate(dataset: Dataset, given: dict[str, float]) -> Dataset:
    calibration = replace(dataset.calibration, **given)
    notes = tuple(f"{name} {value:g}: given" for name, value in given.items())
    if calibration == Calibration():
        notes += ("not calibrated: the file has no scales and none were given",)
    return replace(dataset, calibration=calibration, notes=dataset.notes + notes)
