"""Files without header of their own: frames in equal steps, with or without something between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from jax4dstem.dataset import Doubt
from jax4dstem.errors import InputError
from jax4dstem.io.layout import Layout, Stored
from jax4dstem.io.sources import Opener

KnownShape = tuple[tuple[int, int], str] | None


@dataclass(frozen=True)
class Frames:
    """How patterns lie in a file.

    Attributes:
        dtype: Of the counts.
        shape: Rows and columns of a pattern.
        header: Bytes before the first pattern.
        gap: Bytes after each pattern, as its own footer and the header of the next; after the last there may be fewer.
        footer: Bytes after all.
    """

    dtype: np.dtype
    shape: tuple[int, int]
    header: int = 0
    gap: int = 0
    footer: int = 0

    @property
    def frame_bytes(self) -> int:
        """Size of a pattern."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def pitch(self) -> int:
        """Bytes from the start of a pattern to that of the next."""
        return self.frame_bytes + self.gap

    def count(self, size: int) -> tuple[int, int]:
        """Whole patterns in a file of that size, and bytes that are left."""
        number, rest = divmod(max(size - self.header - self.footer, 0), self.pitch)
        return (number + 1, 0) if rest >= self.frame_bytes else (number, rest)

    def __str__(self) -> str:
        """In words."""
        beside = {"header": self.header, "gap": self.gap, "footer": self.footer}
        told = "".join(f", {name} {size} bytes" for name, size in beside.items() if size)
        return f"frames of {self.shape[0]} x {self.shape[1]} {self.dtype} = {self.frame_bytes} bytes{told}"


def read(path: Path, layout: Layout) -> Stored:
    """Find the patterns of a bare file of given type and shape.

    Raises:
        InputError: Type or shape is not given, or does not fit the file.
    """
    dtype, shape = layout.cast(), layout.detector_shape
    if shape is None or dtype is None:
        raise InputError("a bare .raw file needs both dtype and detector_shape (and scan_shape)")
    if min(shape) < 1:
        raise InputError(f"detector_shape {shape[0]} x {shape[1]} is empty")
    frames = Frames(dtype, shape, layout.header_bytes, layout.gap_bytes, layout.footer_bytes)
    return find(path, frames, layout.given_scan, f"bare file, {frames}")


def find(path: Path, frames: Frames, scan_shape: KnownShape, what: str) -> Stored:
    """Patterns of a file, as many as fit into it.

    Args:
        path: Of the file.
        frames: How they lie in it.
        scan_shape: What the scan should be, where it is known: a file that is too short for it may end within a frame.
        what: The format, for notes.

    Raises:
        InputError: The size of the file does not fit.
    """
    size = path.stat().st_size
    number, rest = frames.count(size)
    needed = prod(scan_shape[0]) if scan_shape else 0
    notes: tuple[str, ...] = (f"format: {what}",)
    if rest and number < needed:
        notes = (*notes, Doubt(f"the last frame is not whole: {rest} bytes are left out"))
    elif rest or number == 0:
        raise InputError(_why_no_fit(path, frames, needed))
    return Stored(
        _strided_map(path, frames, number),
        (number, *frames.shape),
        frames.dtype,
        str(path),
        path.name,
        scan_shape=scan_shape,
        notes=notes,
        tells_frames=False,
    )


def _why_no_fit(path: Path, frames: Frames, needed: int) -> str:
    size = path.stat().st_size
    number, rest = frames.count(size)
    spare = size - frames.header - frames.footer - (needed * frames.pitch - frames.gap)
    left = (
        f"{spare} bytes more than the {needed} patterns of the scan"
        if needed
        else f"{number} frames and {rest} bytes left"
    )
    return (
        f"{path} has {size} bytes, which does not divide into {frames} ({left}): give dtype and "
        "detector_shape, and header_bytes (before the first frame), gap_bytes (after each), footer_bytes"
    )


def _strided_map(path: Path, frames: Frames, number: int) -> Opener:
    """Opener of the patterns as a fresh memory map, so that read pages do not pile up."""
    width = frames.dtype.itemsize
    strides = (frames.pitch, frames.shape[1] * width, width)

    @contextmanager
    def open_map() -> Iterator[np.ndarray]:
        buffer = np.memmap(path, np.uint8, "r")
        yield np.ndarray((number, *frames.shape), frames.dtype, buffer, frames.header, strides)

    return open_map
