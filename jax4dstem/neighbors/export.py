"""Maps of results as files that every other program reads."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from jax4dstem.coordinates import Calibration
from jax4dstem.errors import InputError, OutputError
from jax4dstem.fields import Result
from jax4dstem.io.results import write_bytes
from jax4dstem.neighbors.maps import Map, find_maps
from jax4dstem.pipeline.results import Results, open_results

Files = dict[str, bytes]  # by name
NM_IN_MICRON = 1e-3


def as_tif(maps: Sequence[Map], calibration: Calibration) -> Files:
    """A TIFF of every map with its pixel size, as ImageJ, HyperSpy and others read it."""
    try:
        from tifffile import imwrite
    except ImportError as error:
        raise InputError(
            "TIFF needs tifffile, which is not installed: pip install 'jax4dstem[formats]'"
        ) from error
    (step_y, step), unit = calibration.scan_steps
    # Microns are the one length that HyperSpy knows, too, in what ImageJ reads.
    scale, unit = (NM_IN_MICRON, "micron") if unit == "nm" else (1.0, "pixel")
    files = {}
    for item in maps:
        buffer = BytesIO()
        told = {"axes": "YX", "unit": unit, "Info": _in_words(item)}
        imwrite(
            buffer,
            _imagej_type(item.data),
            imagej=True,
            resolution=(1 / (scale * step), 1 / (scale * step_y)),
            metadata=told,
        )
        files[f"{item.name}.tif"] = buffer.getvalue()
    return files


def as_csv(maps: Sequence[Map], calibration: Calibration) -> Files:
    """One table with a row for every position: row and column of the scan, where it lies, and the maps."""
    shape = maps[0].data.shape
    rows, cols = np.indices(shape)
    (step_y, step), unit = calibration.scan_steps
    columns: list[tuple[str, Any]] = [("scan_y", rows), ("scan_x", cols)]
    if unit == "nm":
        places = (step_y * rows).astype(np.float32), (step * cols).astype(np.float32)
        columns += zip((f"y ({unit})", f"x ({unit})"), places, strict=True)
    columns += [(_header(item), item.data) for item in maps]
    header = ",".join(name for name, _ in columns)
    rows_of_text = map(",".join, zip(*(_as_text(data) for _, data in columns), strict=True))
    text = "\n".join([header, *rows_of_text, ""])
    return {"maps.csv": text.encode()}


def as_npy(maps: Sequence[Map], calibration: Calibration) -> Files:
    """A NumPy array of every map."""
    files = {}
    for item in maps:
        buffer = BytesIO()
        np.save(buffer, item.data)
        files[f"{item.name}.npy"] = buffer.getvalue()
    return files


def as_npz(maps: Sequence[Map], calibration: Calibration) -> Files:
    """All maps in one NumPy archive, by name."""
    buffer = BytesIO()
    arrays: dict[str, Any] = {item.name: item.data for item in maps}
    np.savez_compressed(buffer, **arrays)
    return {"maps.npz": buffer.getvalue()}


# By the suffix that the command line takes.
MAP_FORMATS: dict[str, Callable[[Sequence[Map], Calibration], Files]] = {
    "tif": as_tif,
    "csv": as_csv,
    "npy": as_npy,
    "npz": as_npz,
}


def export_maps(
    results: Result | Results | str | Path,
    names: Sequence[str],
    folder: str | Path,
    *,
    to: str = "tif",
    calibration: Calibration | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write maps of results as files for other programs.

    Args:
        results: A results directory, its answers, or a single answer such as that of `domains.map_domains`.
        names: Of maps: paths as in the results file, or their ends, such as ``e_xx`` (of the pooled strain) and ``domains``.
        folder: For the files; it is made where it is not there.
        to: "tif" (a file per map, with the size of its pixels), "csv" (one table, a row per position, units in the header),
            "npy" (a file per map) or "npz" (one archive).
        calibration: Of the scan; by default that of the results.
        overwrite: Replace files of the same names.

    Returns:
        The files, in the order of the names.

    Raises:
        InputError: There is no such map or format, or a file is already there.
        OutputError: A file cannot be written.

    Example:
        >>> import tempfile
        >>> from jax4dstem.strain import StrainMap
        >>> zero, cov = np.zeros((2, 3)), np.zeros((2, 3, 4, 4))
        >>> strain = StrainMap(zero, zero, zero, zero, cov, zero.astype(int), np.eye(2), "given")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [table] = export_maps(strain, ["e_xx", "theta"], folder, to="csv", calibration=Calibration(scan_step_nm=2))
        ...     table.read_text().splitlines()[:2]
        ['scan_y,scan_x,y (nm),x (nm),e_xx,theta (rad)', '0,0,0.0,0.0,0.0,0.0']
    """
    if to not in MAP_FORMATS:
        raise InputError(f"maps cannot be written as {to!r}; expected {', '.join(MAP_FORMATS)}")
    answers = open_results(results) if isinstance(results, str | Path) else results
    if calibration is None:
        calibration = answers.calibration if isinstance(answers, Results) else Calibration()
    maps = find_maps(answers.fields(), names)
    if not maps:
        raise InputError("no map is named: give one or more")
    doubled = sorted({item.name for item in maps if [m.name for m in maps].count(item.name) > 1})
    if doubled:
        raise InputError(f"several maps would be called {doubled[0]}: give their whole paths")
    return _write(MAP_FORMATS[to](maps, calibration), Path(folder), overwrite)


def _write(files: Files, folder: Path, overwrite: bool) -> list[Path]:
    paths = [folder / name for name in files]
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise InputError(f"{there[0]} is already there; --overwrite (overwrite=True) replaces it")
    make_folder(folder)
    for path in paths:
        write_bytes(path, files[path.name])
    return paths


def make_folder(folder: Path) -> None:
    """Make a folder where there is none.

    Raises:
        OutputError: That is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def _imagej_type(data: np.ndarray) -> np.ndarray:
    """The map in one of the three types that ImageJ knows: labels without a negative one stay integers."""
    if data.dtype.kind in "bui" and data.size and data.min() >= 0 and data.max() < 2**16:
        return data.astype(np.uint8 if data.max() < 2**8 else np.uint16)
    return data.astype(np.float32)


def _as_text(data: np.ndarray) -> list[str]:
    """Every number, by as few digits as give it back."""
    numbers = data.astype(np.uint8) if data.dtype.kind == "b" else data
    return numbers.ravel().astype(str).tolist()


def _header(item: Map) -> str:
    return f"{item.name} ({item.units})" if item.units not in ("", "1") else item.name


def _in_words(item: Map) -> str:
    return f"{item.path}: {item.about}" + (f" ({item.units})" if item.units else "")
