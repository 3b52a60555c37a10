"""NumPy .npy and .npz files, mapped tile by tile where they are not compressed."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from jax4dstem.errors import InputError
from jax4dstem.io import finding
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.sources import Opener, memory_map, readable_errors

MAGIC = b"\x93NUMPY"
ZIP_NAMES = 26  # where a zip entry's own header tells the lengths of name and extra field ...
ZIP_HEADER = 30  # ... and its length without them


@dataclass(frozen=True)
class _Header:
    """Shape and type of an array, and bytes before its numbers."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    length: int


def read(path: Path, layout: Layout) -> Stored:
    """Find the array of a .npy file."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"{path} is no .npy file: it begins with other bytes")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is truncated or no .npy file: {reason}") from error
    if mapped.flags.f_contiguous and not mapped.flags.c_contiguous:
        raise _fortran(path)
    return Stored(
        memory_map(path, mapped.dtype, mapped.shape, mapped.offset),
        mapped.shape,
        mapped.dtype,
        str(path),
        path.name,
        notes=("format: NumPy array, memory-mapped",),
    )


def read_npz(path: Path, layout: Layout) -> Stored:
    """Find the scan among the arrays of a .npz file."""
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = dict(_arrays(archive))
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise InputError(f"{path} is truncated or no .npz file: {error}") from error
    shapes = {name: header.shape for name, (_, header) in arrays.items()}
    name, why = finding.choose(shapes, layout.key, path)
    entry, header = arrays[name]
    if header.fortran and len(header.shape) > 1:
        raise _fortran(f"{name} in {path}")
    compressed = entry.compress_type != zipfile.ZIP_STORED
    offset = _start(path, entry) + header.length
    return Stored(
        _in_memory(path, name)
        if compressed
        else memory_map(path, header.dtype, header.shape, offset),
        header.shape,
        header.dtype,
        str(path),
        name,
        notes=(
            why,
            f"format: NumPy .npz, {'unpacked in memory' if compressed else 'memory-mapped'}",
        ),
    )


def _arrays(archive: zipfile.ZipFile) -> Iterator[tuple[str, tuple[zipfile.ZipInfo, _Header]]]:
    for entry in archive.infolist():
        if entry.filename.endswith(".npy"):
            with archive.open(entry) as stream:
                header = _header(stream)
            if header.dtype.kind in "buif":
                yield entry.filename.removesuffix(".npy"), (entry, header)


def _header(stream: Any) -> _Header:
    version = npy_format.read_magic(stream)
    reader = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    shape, fortran, dtype = reader(stream)
    return _Header(shape, fortran, dtype, stream.tell())


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where an entry's bytes begin: after its own header, whose extra field may differ from the directory's."""
    with path.open("rb") as file:
        file.seek(entry.header_offset + ZIP_NAMES)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return entry.header_offset + ZIP_HEADER + name + extra


def _in_memory(path: Path, name: str) -> Opener:
    """Opener of a compressed array, which is unpacked once, when it is first read."""

    @lru_cache(maxsize=1)
    def unpacked() -> np.ndarray:
        with readable_errors(), np.load(path, allow_pickle=False) as archive:
            return archive[name]

    @contextmanager
    def open_array() -> Iterator[np.ndarray]:
        yield unpacked()

    return open_array


def _fortran(what: object) -> InputError:
    return InputError(f"{what} is stored in Fortran order; save numpy.ascontiguousarray(data)")
