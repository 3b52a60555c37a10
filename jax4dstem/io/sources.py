"""Sources of patterns: files as rectangles of a scan, read tile by tile."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from jax4dstem.errors import InputError

Array = Any  # anything with shape, dtype and NumPy slicing: h5py, zarr, dask, memory map
Opener = Callable[[], AbstractContextManager[Array]]


@dataclass(frozen=True)
class GridSource:
    """Patterns of a stored 4D array, whatever the order of its axes.

    Attributes:
        open: Gives the array for the time of one read, so that no file stays open or mapped.
        stored_shape: Shape of the array as stored.
        stored_dtype: Its type as stored.
        order: Stored axis of each of ``(scan_y, scan_x, det_y, det_x)``.
        stored_chunks: Chunks along the stored axes.
        cast: Type to convert to, or None.
    """

    open: Opener
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    stored_chunks: tuple[int, ...] | None = None
    cast: np.dtype | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(scan_y, scan_x, det_y, det_x)``."""
        y, x, det_y, det_x = (self.stored_shape[axis] for axis in self.order)
        return y, x, det_y, det_x

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` returns."""
        return readable_dtype(self.cast or self.stored_dtype)

    @property
    def chunks(self) -> tuple[int, int]:
        """Scan rows and columns per chunk."""
        if self.stored_chunks is None:
            return 1, 1
        return self.stored_chunks[self.order[0]], self.stored_chunks[self.order[1]]

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Patterns of a rectangle, in our axes order and the machine's byte order."""
        index: list[slice] = [slice(None)] * 4
        index[self.order[0]], index[self.order[1]] = rows, cols
        with self.open() as array, readable_errors():
            block = _as_numpy(array[tuple(index)])
        return convert(np.transpose(block, self.order), self.dtype)


@dataclass(frozen=True)
class StackSource:
    """Patterns of a stored 3D stack ``(frame, det_y, det_x)``, scanned row by row.

    Attributes:
        open: Gives the stack for the time of one read.
        scan_shape: ``(scan_y, scan_x)``.
        detector_shape: ``(det_y, det_x)`` of a pattern; a stored frame may have more rows.
        stored_dtype: Type as stored.
        skip: Frames before the first position.
        flyback: Frames after each scan row that belong to no position.
        cast: Type to convert to, or None.
        frame_chunk: Frames per chunk of the file.
        swap: Whether frames are stored ``(det_x, det_y)``.
    """

    open: Opener
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    stored_dtype: np.dtype
    skip: int = 0
    flyback: int = 0
    cast: np.dtype | None = None
    frame_chunk: int = 1
    swap: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(scan_y, scan_x, det_y, det_x)``."""
        return *self.scan_shape, *self.detector_shape

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` returns."""
        return readable_dtype(self.cast or self.stored_dtype)

    @property
    def chunks(self) -> tuple[int, int]:
        """Whole rows when a chunk of frames spans them, otherwise any rectangle."""
        rows = self.frame_chunk // (self.scan_shape[1] + self.flyback)
        return max(1, rows), 1

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Patterns of a rectangle; frames between its rows are read and dropped."""
        width = self.scan_shape[1] + self.flyback
        height, wide = rows.stop - rows.start, cols.stop - cols.start
        first = self.skip + rows.start * width + cols.start
        last = self.skip + (rows.stop - 1) * width + cols.stop
        with self.open() as stack, readable_errors():
            frames = _as_numpy(stack[first:last])
        if self.swap:
            frames = frames.swapaxes(1, 2)
        frames = frames[:, : self.detector_shape[0]]
        if wide < width and height > 1:
            keep = (np.arange(height)[:, None] * width + np.arange(wide)).ravel()
            frames = frames[keep]
        return convert(frames.reshape(height, wide, *self.detector_shape), self.dtype)


@dataclass(frozen=True)
class Concatenated:
    """Stacks of frames stored in several HDF5 datasets of one file, one after the other."""

    file: h5py.File
    keys: tuple[str, ...]
    lengths: tuple[int, ...] = field(default=())

    def __getitem__(self, frames: slice) -> np.ndarray:
        """Read a range of frames."""
        parts, start = [], 0
        for key, length in zip(self.keys, self.lengths, strict=True):
            low, high = max(frames.start - start, 0), min(frames.stop - start, length)
            if low < high:
                parts.append(self.file[key][low:high])  # type: ignore[index]
            start += length
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def memory_map(path: Path, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> Opener:
    """Opener of a file's array as a fresh memory map, so that read pages do not pile up."""

    @contextmanager
    def open_map() -> Iterator[np.ndarray]:
        yield np.memmap(path, dtype, "r", offset, shape).view(np.ndarray)

    return open_map


def readable_dtype(stored: np.dtype) -> np.dtype:
    """What patterns of a stored type are read as: native byte order, at most 32 bits.

    JAX computes in 32 bits by default, so 64-bit integers become float32 instead of wrapping around.

    Raises:
        InputError: The type is not a real number.
    """
    stored = np.dtype(stored)
    if stored.kind == "b":
        return np.dtype(np.uint8)
    if stored.kind not in "uif":
        raise InputError(f"the data have type {stored}; expected real numbers")
    if stored.kind in "ui" and stored.itemsize == 8:
        return np.dtype(np.float32)
    if stored.kind == "f" and stored.itemsize > 8:
        return np.dtype(np.float64)
    return stored.newbyteorder("=")


def convert(block: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The block contiguous and in that type; a view when it already is."""
    return np.ascontiguousarray(block, dtype=dtype)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn a broken file into one line."""
    try:
        yield
    except (OSError, ValueError, EOFError) as error:
        text = str(error).splitlines()[0]
        if "not registered" in text or "can't open directory" in text:
            raise InputError(
                "the data are compressed with a filter that is not installed: "
                f"pip install 'jax4dstem[compression]' ({text})"
            ) from error
        raise InputError(f"the data cannot be read, the file may be truncated: {text}") from error


def frames_of(scan_shape: tuple[int, int], flyback: int) -> int:
    """Number of frames a scan takes; the last row needs no flyback."""
    return scan_shape[0] * (scan_shape[1] + flyback) - flyback


def fit_scan(
    n_frames: int, scan_shape: tuple[int, int] | None, skip: int, flyback: int
) -> tuple[tuple[int, int], str]:
    """The scan shape of a stack of frames, and how it was decided.

    Raises:
        InputError: It is not given and cannot be guessed, or does not fit.
    """
    available = n_frames - skip
    if scan_shape is None:
        side = int(np.sqrt(max(available, 0)))
        if flyback:
            side = int((np.sqrt(flyback**2 + 4 * (available + flyback)) - flyback) / 2)
        if side < 1 or available - frames_of((side, side), flyback) not in (0, flyback):
            raise InputError(
                f"the file is a stack of {n_frames} patterns ({skip} skipped, flyback {flyback}), which "
                "is no square scan: give scan_shape as rows, columns"
            )
        return (side, side), f"scan {side} x {side}: guessed, {available} patterns make a square"
    need = frames_of(scan_shape, flyback)
    leftover = available - need
    if min(scan_shape) < 1:
        raise InputError(f"scan_shape {scan_shape[0]} x {scan_shape[1]} is empty")
    if leftover < 0 or (leftover not in (0, flyback) and skip == 0):
        raise InputError(
            f"scan_shape {scan_shape[0]} x {scan_shape[1]} needs {need} patterns, but the file has "
            f"{available}" + (f" after skipping {skip}" if skip else "") + "; "
            f"{prod(scan_shape)} positions and a flyback of {flyback}"
        )
    return scan_shape, f"scan {scan_shape[0]} x {scan_shape[1]}: given"


def _as_numpy(block: Any) -> np.ndarray:
    return np.asarray(block.compute() if hasattr(block, "compute") else block)
