"""A sample of the scan from which everything shared is learned: blocks of neighboring positions."""

from typing import NamedTuple

import numpy as np

from jax4dstem.dataset import ArraySource, Dataset

BLOCK = 4  # positions along each side of a block, whose mean shows weak disks
MAX_BLOCKS = 6  # blocks along each side of the scan
MAX_BYTES = 2**28  # of all sampled patterns


class ScanSample(NamedTuple):
    """Sampled positions, in memory.

    Attributes:
        dataset: Their patterns, with the steps of the scan.
        rows: Scan rows, block by block.
        cols: Scan columns, in the same way.
        block: Positions along y and x in a block.

    Example:
        >>> scan = Dataset.from_array(np.zeros((9, 5, 4, 4), np.uint8))
        >>> sample_scan(scan).of(np.zeros((9, 5, 2))).shape
        (8, 4, 2)
    """

    dataset: Dataset
    rows: np.ndarray
    cols: np.ndarray
    block: tuple[int, int]

    def of(self, maps: np.ndarray) -> np.ndarray:
        """Values of a map ``(scan_y, scan_x, ...)`` at the sampled positions."""
        return np.asarray(maps)[self.rows[:, None], self.cols[None, :]]


def sample_scan(dataset: Dataset) -> ScanSample:
    """Up to 6 x 6 evenly spread blocks of 4 x 4 positions, fewer for large patterns.

    Args:
        dataset: The scan.

    Returns:
        The sampled positions and their patterns, read.

    Example:
        >>> sample_scan(Dataset.from_array(np.zeros((9, 5, 4, 4), np.uint8))).rows.tolist()
        [0, 1, 2, 3, 5, 6, 7, 8]
    """
    pattern = int(np.prod(dataset.detector_shape)) * dataset.dtype.itemsize
    blocks = int(np.clip(np.sqrt(MAX_BYTES / pattern) / BLOCK, 1, MAX_BLOCKS))
    rows, cols = (_blocks(size, blocks) for size in dataset.scan_shape)
    chosen = dataset.sample_scan(rows.tolist(), cols.tolist())
    patterns = chosen.source.read(slice(0, len(rows)), slice(0, len(cols)))
    in_memory = Dataset(ArraySource(patterns), dataset.calibration, chosen.steps)
    block = min(BLOCK, dataset.scan_shape[0]), min(BLOCK, dataset.scan_shape[1])
    return ScanSample(in_memory, rows, cols, block)


def _blocks(size: int, blocks: int) -> np.ndarray:
    block = min(BLOCK, size)
    count = min(blocks, size // block)
    starts = np.linspace(0, size - block, count).astype(int) if count > 1 else [(size - block) // 2]
    return np.concatenate([np.arange(start, start + block) for start in starts])
