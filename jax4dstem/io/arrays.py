"""Small arrays beside the data, such as masks and maps of centers: .npy, .tif, or a dataset in HDF5."""

from pathlib import Path

import h5py
import numpy as np

from jax4dstem.errors import InputError

EXPECTED = "a .npy, a .tif, or FILE.h5:KEY"


def read_array(name: str) -> np.ndarray:
    """Read a whole array.

    Args:
        name: Of a .npy or .tif file, or of an HDF5 file, followed by ``:KEY`` where that holds more than one dataset.

    Returns:
        The array.

    Raises:
        InputError: There is no such file or key, or it cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        ...     np.save(file.name, np.eye(2))
        ...     read_array(file.name).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    path, key = _parts(name)
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected {EXPECTED}")
    try:
        if h5py.is_hdf5(path):
            return _from_hdf5(path, key)
        if path.suffix.lower() in (".tif", ".tiff"):
            return _from_tiff(path)
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cannot read an array from {name}: {reason}; expected {EXPECTED}"
        ) from error


def _parts(name: str) -> tuple[Path, str | None]:
    """File and key; a colon of the file's own name, as of a drive, is no separator."""
    if Path(name).is_file():
        return Path(name), None
    path, colon, key = name.rpartition(":")
    return (Path(path), key) if colon and path else (Path(name), None)


def _from_hdf5(path: Path, key: str | None) -> np.ndarray:
    with h5py.File(path, "r") as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(
            lambda name, item: (
                found.update({name: item}) if isinstance(item, h5py.Dataset) else None
            )
        )
        if key is None and len(found) != 1:
            raise InputError(f"{path} holds {len(found)} datasets; name one as {path}:KEY")
        wanted = next(iter(found)) if key is None else key.strip("/")
        if wanted not in found:
            raise InputError(f"{path} has no dataset {wanted}; it has {', '.join(found) or 'none'}")
        return np.asarray(found[wanted][()])


def _from_tiff(path: Path) -> np.ndarray:
    try:
        import tifffile
    except ImportError as error:
        raise InputError(f"{path} needs tifffile: pip install 'jax4dstem[formats]'") from error
    return np.asarray(tifffile.imread(path))
