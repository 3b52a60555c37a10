"""Sources of patterns: files as rectangles of a scan, read tile by tile."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

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
    """Patterns of a stored 3D stack, scanned row by row.

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
            parts = [self._frames(stack, slice(start, start + width)) for start in starts]
        frames = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return convert(frames, self.dtype).reshape(height, -1, *self.shape[2:])

    def _frames(self, stack: Array, frames: slice) -> np.ndarray:
        index = [slice(None)] * 3
        index[self.order[0]] = frames
        return np.transpose(_as_numpy(stack[tuple(index)]), self.order)


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
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the data cannot be read, the file may be truncated: {reason}") from error


def fit_scan(
    n_frames: int, known: tuple[tuple[int, int], str] | None, skip: int, flyback: int
) -> tuple[tuple[int, int], str]:
    """The scan shape of a stack of frames, and how it was decided.

    A scan of m rows of n positions takes m (n + f) - f frames with a flyback of f: the last row may
    end without.

    Args:
        n_frames: Frames in the file.
        known: The shape where it is known, and why; None to guess a square.
        skip: Frames before the scan.
        flyback: Frames f after each row.

    Raises:
        InputError: The shape is not known and cannot be guessed, or does not fit.

    Example:
        >>> fit_scan(16, None, 0, 0)
        ((4, 4), 'scan 4 x 4: guessed, 16 patterns make a square')
    """
    available = n_frames - skip
    if known is None:
        return _square_scan(available, flyback)
    (height, width), why = known
    told = f"scan_shape {height} x {width}"
    if min(height, width) < 1:
        raise InputError(f"{told} is empty")
    spare = available - height * (width + flyback) + flyback
    # A stack whose start is skipped may have an end to leave as well.
    if spare < 0 or (spare not in (0, flyback) and not skip):
        skipped = f" after skipping {skip}" if skip else ""
        between = f" and a flyback of {flyback}" if flyback else ""
        raise InputError(
            f"{told}{between} needs {available - spare} patterns, but the file has "
            f"{available}{skipped}"
        )
    left = f"; {spare} patterns at the end are not used" if spare else ""
    return (height, width), f"scan {height} x {width}: {why}{left}"


def _square_scan(available: int, flyback: int) -> tuple[tuple[int, int], str]:
    # n (n + f) - f = available, or one flyback more
    sides = (isqrt(max(4 * (available + end) + flyback**2, 0)) for end in (flyback, 0))
    for side in ((root - flyback) // 2 for root in sides):
        if side > 0 and available - side * (side + flyback) + flyback in (0, flyback):
            why = f"guessed, {available} patterns make a square"
            return (side, side), f"scan {side} x {side}: {why}"
    raise InputError(
        f"a stack of {available} patterns (flyback {flyback}) makes no square scan: "
        "give scan_shape as rows, columns"
    )


def _as_numpy(block: Any) -> np.ndarray:
    return np.asarray(block.compute() if hasattr(block, "compute") else block)
