"""A scan as a file that any reader of HDF5 understands."""

from dataclasses import replace
from pathlib import Path

import h5py

from jax4dstem.coordinates import Calibration
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.whole import written_whole

NAME = "data"
SCALES = (
    "pixel_inv_angstrom", "pixel_y_inv_angstrom", "scan_step_nm", "scan_step_y_nm", "energy_kv",
)  # fmt: skip


def write_scan(scan: Dataset, path: str | Path) -> Path:
    """Write the raw patterns of a scan and its scales to an HDF5 file, a row of the scan at a time.

    The file holds one array, ``data``, with attributes such as ``pixel_inv_angstrom``; `open_dataset` reads it back. It is written
    under another name and renamed, so that there is never half a file.

    Args:
        scan: The patterns; its chain must be empty, as what it makes are no counts.
        path: Of the file, ending in .h5; an existing one is replaced.

    Returns:
        The path.

    Raises:
        InputError: The chain is not empty, the name does not end in .h5 or .hdf5, or scan and detector are turned,
            mirrored or distorted.
        OutputError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jax4dstem.io import open_dataset
        >>> scan = Dataset.from_array(np.ones((2, 3, 8, 8), np.uint16), Calibration(0.02, 3.0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     open_dataset(write_scan(scan, f"{folder}/scan.h5"))
        <Dataset scan.h5: 2 x 3 positions, 8 x 8 px, uint16, 768 bytes, step 3 nm, pixel 0.02 1/Å>
    """
    path = Path(path)
    if scan.steps:
        raise InputError(
            "only raw patterns are written: this scan has steps; leave them to the reader"
        )
    if path.suffix.lower() not in (".h5", ".hdf5"):
        raise InputError(f"a scan is written as HDF5, to a name such as scan.h5; got {path.name}")
    known = {name: getattr(scan.calibration, name) for name in SCALES}
    if replace(scan.calibration, **dict.fromkeys(SCALES)) != Calibration():
        raise InputError(
            "rotation, flip and ellipse are not written: give them to the reader of the file"
        )
    known["notes"] = "\n".join(scan.notes) or None
    with written_whole(path) as unfinished, h5py.File(unfinished, "w") as file:
        data = file.create_dataset(
            NAME, scan.shape, scan.dtype, chunks=(1, 1, *scan.detector_shape),
            compression="gzip", compression_opts=1, shuffle=True,
        )  # fmt: skip
        data.attrs.update({name: value for name, value in known.items() if value is not None})
        for row in range(scan.scan_shape[0]):
            data[row] = scan.source.read(slice(row, row + 1), slice(0, scan.scan_shape[1]))[0]
    return path
