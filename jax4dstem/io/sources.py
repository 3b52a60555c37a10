"""Sources of patterns: files as rectangles of a scan, read tile by tile."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from jax4dstem.dataset import Doubt
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
    order: tuple[int, ...] = (0, 1, 2, 3)
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
        with readable_errors(), self.open() as array:
            block = _as_numpy(array[tuple(index)])
        return convert(np.transpose(block, self.order), self.dtype)


@dataclass(frozen=True)
class StackSource:
    """Patterns of a stored 3D stack, scanned row by row; positions past its end are blank or NaN.

    Attributes:
        open: Gives the stack for the time of one read.
        scan_shape: ``(scan_y, scan_x)``.
        stored_shape: Shape of the stack as stored.
        stored_dtype: Type as stored.
        order: Stored axis of each of ``(frame, det_y, det_x)``.
        stored_chunks: Chunks along the stored axes.
        cast: Type to convert to, or None.
        skip: Frames before the first position.
        flyback: Frames after each scan row that belong to no position.
    """

    open: Opener
    scan_shape: tuple[int, int]
    stored_shape: tuple[int, ...]
    stored_dtype: np.dtype
    order: tuple[int, ...] = (0, 1, 2)
    stored_chunks: tuple[int, ...] | None = None
    cast: np.dtype | None = None
    skip: int = 0
    flyback: int = 0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(scan_y, scan_x, det_y, det_x)``."""
        _, det_y, det_x = (self.stored_shape[axis] for axis in self.order)
        return *self.scan_shape, det_y, det_x

    @property
    def dtype(self) -> np.dtype:
        """Type of what `read` returns."""
        return readable_dtype(self.cast or self.stored_dtype)

    @property
    def missing(self) -> np.ndarray:
        """Positions past the end of the stack, ``(scan_y, scan_x)``."""
        frames = self.stored_shape[self.order[0]]
        return missing_frames(frames - self.skip, self.scan_shape, self.flyback)

    @property
    def chunks(self) -> tuple[int, int]:
        """Whole rows when a chunk of frames spans them, otherwise any rectangle."""
        if self.stored_chunks is None:
            return 1, 1
        rows = self.stored_chunks[self.order[0]] // (self.scan_shape[1] + self.flyback)
        return max(1, rows), 1

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Patterns of a rectangle; frames between its rows are not read."""
        pitch = self.scan_shape[1] + self.flyback
        height, width = rows.stop - rows.start, cols.stop - cols.start
        starts = [self.skip + row * pitch + cols.start for row in range(rows.start, rows.stop)]
        if width == pitch:  # the rows follow each other
            starts, width = starts[:1], height * pitch
        with readable_errors(), self.open() as stack:
            parts = [self._frames(stack, start, start + width) for start in starts]
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return frames.reshape(height, -1, *self.shape[2:])

    def _frames(self, stack: Array, start: int, stop: int) -> np.ndarray:
        end = self.stored_shape[self.order[0]]
        index = [slice(None)] * 3
        index[self.order[0]] = slice(min(start, end), min(stop, end))
        there = convert(np.transpose(_as_numpy(stack[tuple(index)]), self.order), self.dtype)
        if stop <= end:
            return there
        no_count = np.nan if self.dtype.kind == "f" else 0
        missing = np.full((stop - max(start, end), *there.shape[1:]), no_count, self.dtype)
        return np.concatenate([there, missing])


@dataclass(frozen=True)
class Concatenated:
    """Stacks of frames, one after the other, as one."""

    stacks: tuple[Array, ...]
    lengths: tuple[int, ...]

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Read a range of frames."""
        first, last, _ = index[0].indices(sum(self.lengths))
        parts, start = [], 0
        for stack, length in zip(self.stacks, self.lengths, strict=True):
            low, high = max(first - start, 0), min(last - start, length)
            if low < high:
                parts.append(stack[(slice(low, high), *index[1:])])
            start += length
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


@dataclass(frozen=True)
class Indexed:
    """One scan of a stored series."""

    series: Array
    axis: int
    number: int

    def __getitem__(self, index: tuple[slice, ...]) -> Array:
        """Read a part of that scan."""
        return self.series[(*index[: self.axis], self.number, *index[self.axis :])]


@dataclass(frozen=True)
class Single:
    """One stored pattern as a stack of one frame."""

    pattern: Array

    def __getitem__(self, index: tuple[slice, ...]) -> np.ndarray:
        """Read a part of the stack."""
        return _as_numpy(self.pattern[index[1:]])[None][index[:1]]


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
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the data cannot be read, the file may be truncated: {reason}") from error


def fit_scan(
    n_frames: int, known: tuple[tuple[int, int], str] | None, skip: int, flyback: int
) -> tuple[tuple[int, int], tuple[str, ...]]:
    """The scan shape of a stack of frames, and notes on how it was decided.

    A scan of m rows of n positions takes m (n + f) - f frames with a flyback of f: the last row may
    end without. A stack that holds more than half of the frames of a known shape is an aborted scan.

    Args:
        n_frames: Frames in the file.
        known: The shape where it is known, and why; None to guess a square.
        skip: Frames before the scan.
        flyback: Frames f after each row.

    Raises:
        InputError: The shape is not known and cannot be guessed, or does not fit.

    Example:
        >>> fit_scan(16, None, 0, 0)
        ((4, 4), ('scan 4 x 4: guessed, 16 patterns make a square; give scan_shape if they do not',))
    """
    available = n_frames - skip
    if known is None:
        return _square_scan(available, flyback)
    (height, width), why = known
    told = f"scan_shape {height} x {width}"
    if min(height, width) < 1:
        raise InputError(f"{told} is empty")
    needed = height * (width + flyback) - flyback
    spare = available - needed
    note = f"scan {height} x {width}: {why}"
    if -needed / 2 < spare < 0:
        return (height, width), (note, _aborted(available, (height, width), flyback))
    # A stack whose start is skipped may have an end to leave as well.
    if spare < 0 or (spare not in (0, flyback) and not skip):
        skipped = f" after skipping {skip}" if skip else ""
        between = f" and a flyback of {flyback}" if flyback else ""
        advice = f": {spare} too many; give frame_skip if some come before the scan"
        raise InputError(
            f"{told} ({why}){between} needs {needed} patterns, but the file has "
            f"{available}{skipped}{advice if spare > 0 else ''}"
        )
    return (height, width), (
        f"{note}; {spare} patterns at the end are not used" if spare else note,
    )


def missing_frames(available: int, scan_shape: tuple[int, int], flyback: int) -> np.ndarray:
    """Positions of a scan that the first frames do not reach, ``(scan_y, scan_x)``.

    Example:
        >>> missing_frames(5, (2, 3), 1).tolist()
        [[False, False, False], [False, True, True]]
    """
    rows, cols = np.indices(scan_shape)
    return rows * (scan_shape[1] + flyback) + cols >= available


def _aborted(available: int, scan_shape: tuple[int, int], flyback: int) -> Doubt:
    missing = missing_frames(available, scan_shape, flyback)
    y, x = np.argwhere(missing)[0]
    return Doubt(
        f"{missing.sum()} of {missing.size} patterns are missing at the end, as after an aborted scan: "
        f"positions from ({y}, {x}) on have none and are left out"
    )


def _square_scan(available: int, flyback: int) -> tuple[tuple[int, int], tuple[str, ...]]:
    # n (n + f) - f = available, or one flyback more
    sides = (isqrt(max(4 * (available + end) + flyback**2, 0)) for end in (flyback, 0))
    for side in ((root - flyback) // 2 for root in sides):
        if side > 0 and available - side * (side + flyback) + flyback in (0, flyback):
            why = f"guessed, {available} patterns make a square; give scan_shape if they do not"
            return (side, side), (Doubt(f"scan {side} x {side}: {why}"),)
    raise InputError(
        f"a stack of {available} patterns (flyback {flyback}) makes no square scan: "
        "give scan_shape as rows, columns"
    )


def _as_numpy(block: Any) -> np.ndarray:
    return np.asarray(block.compute() if hasattr(block, "compute") else block)
