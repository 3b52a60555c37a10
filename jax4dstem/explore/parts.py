"""Parts of a scan, with what differs per position: rows, a coarse grid held in memory."""

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from jax4dstem.dataset import ArraySource, Dataset, SourceView

PREVIEW_BYTES = (
    128 * 2**20
)  # of raw patterns held in memory: a virtual image of them takes tens of ms
KEPT_BYTES = 64 * 2**20  # of chunks that were read for single patterns
BAND_BYTES = 32 * 2**20  # of raw patterns worked on between two pictures


@dataclass(frozen=True)
class Preview:
    """A scan's positions on a coarse grid, held in memory.

    Attributes:
        scan: Those positions.
        step: Rows, and columns, from one to the next; 1 where the whole scan is held.
    """

    scan: Dataset
    step: int

    @classmethod
    def of(cls, scan: Dataset, limit: int = PREVIEW_BYTES) -> "Preview":
        """The finest grid of at most so many bytes."""
        step = preview_step(scan, limit)
        rows, cols = (range(step // 2, size, step) for size in scan.scan_shape)
        grid = scan.sample_scan(rows, cols)
        patterns = grid.source.read(slice(0, len(rows)), slice(0, len(cols)))
        return cls(replace(grid, source=ArraySource(np.array(patterns))), step)


@dataclass(frozen=True)
class KeptChunks(SourceView):
    """A source that keeps what it read last: neighbors of a compressed pattern then cost nothing.

    Attributes:
        source: What is read.
        kept: Chunks by their first row and column, the last one read at the end.
    """

    kept: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def read(self, rows: slice, cols: slice) -> np.ndarray:
        """Of one position, from its chunk; of several, from the source."""
        if rows.stop - rows.start > 1 or cols.stop - cols.start > 1:
            return self.source.read(rows, cols)
        height, width = self.chunks
        y, x = rows.start // height * height, cols.start // width * width
        chunk = self.kept.pop((y, x), None)
        if chunk is None:
            last_y, last_x = min(y + height, self.shape[0]), min(x + width, self.shape[1])
            chunk = self.source.read(slice(y, last_y), slice(x, last_x))
        self.kept[y, x] = chunk
        while len(self.kept) > 1 and sum(c.nbytes for c in self.kept.values()) > KEPT_BYTES:
            self.kept.pop(next(iter(self.kept)), None)
        return chunk[rows.start - y : rows.stop - y, cols.start - x : cols.stop - x]


def preview_step(scan: Dataset, limit: int = PREVIEW_BYTES) -> int:
    """Rows, and columns, between the positions of the finest grid of at most ``limit`` bytes."""
    longest = max(scan.scan_shape)
    most = max(1, limit // pattern_bytes(scan))
    fits = (s for s in range(1, longest) if prod(-(-n // s) for n in scan.scan_shape) <= most)
    return next(fits, longest)


def band_rows(scan: Dataset, limit: int = BAND_BYTES) -> int:
    """Rows of the scan in about ``limit`` bytes, whole chunks of the file."""
    row = scan.scan_shape[1] * pattern_bytes(scan)
    chunk = scan.source.chunks[0]
    return min(max(chunk, limit // row // chunk * chunk), scan.scan_shape[0])


def pattern_bytes(scan: Dataset) -> int:
    """Of one raw pattern."""
    return prod(scan.detector_shape) * scan.dtype.itemsize
