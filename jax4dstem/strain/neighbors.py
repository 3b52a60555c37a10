"""Sums of neighboring patterns, for scans of so few electrons that one pattern shows no lattice."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import IDEAL, Detector
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, dims_of
from jax4dstem.stream import map_patterns
from jax4dstem.typing import Float, Int, Pattern

_R = TypeVar("_R", bound=Result)
_SCAN = tuple(SCAN.split())


@dataclass(frozen=True)
class MoveCounts:
    """Pattern function: move a pattern by whole pixels, so that counts stay counts.

    Attributes:
        margin: Largest move in px.
    """

    margin: int

    def __call__(
        self, pattern: Pattern, move: Int[jax.Array, "2"], detector: Detector
    ) -> Float[jax.Array, "det_y det_x"]:
        """Moved by (-y, -x) px; NaN where nothing is known."""
        counts = jnp.where(detector.known(pattern), pattern.astype(float), jnp.nan)
        padded = jnp.pad(counts, self.margin, constant_values=jnp.nan)
        return jax.lax.dynamic_slice(padded, move + self.margin, pattern.shape)


def sum_neighbors(
    dataset: Dataset,
    center: np.ndarray,
    size: int,
    detector: Detector | None = None,
    progress: str | None = None,
) -> tuple[Dataset, np.ndarray]:
    """Sum blocks of ``size`` x ``size`` neighboring patterns, their direct beams laid on each other.

    Patterns are moved by whole pixels: the sum is as Poisson distributed as its parts, and its disks are blurred by
    less than a pixel. Rows and columns that fill no block are left out.

    Args:
        dataset: Counts; the sums are held in memory.
        center: Of the direct beam, ``(scan_y, scan_x, 2)`` in px.
        size: Positions along each side of a block.
        detector: Its masked pixels are left out, as NaN where one falls on a pixel of the sum.
        progress: Label of the progress bar.

    Returns:
        The sums, with `size` times fewer rows and columns, and their centers.

    Raises:
        InputError: The scan is smaller than a block.

    Example:
        >>> scan = Dataset.from_array(np.ones((4, 6, 8, 8), np.uint8))
        >>> sums, center = sum_neighbors(scan, np.full((4, 6, 2), 3.5), 2)
        >>> sums.shape, center.shape
        ((2, 3, 8, 8), (2, 3, 2))
    """
    rows, cols = (n // size for n in dataset.scan_shape)
    if rows < 1 or cols < 1:
        raise InputError(
            f"the {dataset.scan_shape} scan is smaller than blocks of {size} positions"
        )
    center = np.asarray(center, np.float64)[: rows * size, : cols * size]
    moves = np.rint(center - np.nanmean(center.reshape(-1, 2), axis=0)).astype(np.int32)
    move_counts = MoveCounts(int(np.abs(moves).max()))
    total = np.zeros((rows, cols, *dataset.pattern_shape), np.float32)
    for i, j in np.ndindex(size, size):
        part = dataset.sample_scan(range(i, rows * size, size), range(j, cols * size, size))
        own = moves[i::size, j::size]
        total += map_patterns(
            move_counts, part, detector or IDEAL, per_position=(own,), progress=progress
        )
    left = (center - moves).reshape(rows, size, cols, size, 2).mean(axis=(1, 3))
    return Dataset.from_array(total, calibration=dataset.calibration.binned_scan(size)), left


def block_of(
    few: tuple[int, int], scan: tuple[int, int], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the block that every position of the scan lies in, or next to; an index into block maps."""
    rows = np.minimum(np.arange(scan[0]) // size, few[0] - 1)
    cols = np.minimum(np.arange(scan[1]) // size, few[1] - 1)
    return rows[:, None], cols[None, :]


def spread_over(result: _R, few: tuple[int, int], scan: tuple[int, int], size: int) -> _R:
    """A result of blocks as one of the scan: in its maps each position has the value of its block.

    Args:
        result: Of the blocks; what has no scan axes stays as it is.
        few: Rows and columns of blocks.
        scan: Rows and columns of positions.
        size: Positions along each side of a block.
    """
    block = block_of(few, scan, size)
    dims, changed = dims_of(type(result)), {}
    whole: Any = result
    for name, value in vars(result).items():
        if isinstance(value, Result):
            changed[name] = spread_over(value, few, scan, size)
        elif value is not None and dims.get(name, ())[:2] == _SCAN:
            changed[name] = value[block]
    return replace(whole, **changed)
