"""What a few patterns of a scan tell of its counts, before anything is computed."""

from dataclasses import dataclass

import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.io.axes import seem_exchanged

PER_SIDE = 4  # rows and columns of the scan that are looked at: 16 patterns are read at once

# The brightest pixel of a pattern has all its electrons, 1e10 at most; a faint one less than one in a thousand patterns.
ABSURD = 1e15


@dataclass(frozen=True)
class Glance:
    """Counts of a few patterns.

    Attributes:
        n_patterns: How many were looked at.
        smallest: Smallest finite count.
        largest: Largest finite count.
        mean: Mean of the finite counts.
        whole: Whether all finite counts are whole numbers.
        doubts: What may be wrong with them.
    """

    n_patterns: int
    smallest: float
    largest: float
    mean: float
    whole: bool
    doubts: tuple[str, ...]

    def __str__(self) -> str:
        """In one line."""
        kind = "whole numbers" if self.whole else "not whole numbers"
        return (
            f"{self.smallest:g} to {self.largest:g}, mean {self.mean:.4g}, {kind} "
            f"({self.n_patterns} patterns looked at)"
        )


def glance(scan: Dataset) -> Glance:
    """Look at patterns where a few rows and columns of the scan cross, the first and last among them.

    Args:
        scan: Raw patterns; those that are missing are passed over.

    Returns:
        Range and mean of the counts, and doubts.

    Raises:
        InputError: The file cannot be read.

    Example:
        >>> str(glance(Dataset.from_array(np.full((1, 2, 4, 4), 3, np.uint8))))
        '3 to 3, mean 3, whole numbers (2 patterns looked at)'
    """
    rows, cols = (
        np.unique(np.linspace(0, size - 1, PER_SIDE).astype(int)).tolist()
        for size in scan.scan_shape
    )
    few = scan.sample_scan(rows, cols)
    patterns = few.source.read(slice(0, len(rows)), slice(0, len(cols)))[~few.missing]
    usable = _usable(scan)
    counts = patterns[:, usable]
    counts = counts[np.isfinite(counts)]
    if counts.size == 0:
        return Glance(len(patterns), np.nan, np.nan, np.nan, False, ("no pattern has a count",))
    whole = bool((counts == np.trunc(counts)).all())
    return Glance(
        len(patterns),
        float(counts.min()),
        float(counts.max()),
        float(counts.mean(dtype=float)),
        whole,
        tuple(_doubts(patterns, usable)),
    )


def _usable(scan: Dataset) -> np.ndarray:
    """Raw pixels that the file does not mask; all where its mask is one of cropped or binned patterns."""
    shape = scan.detector_shape
    return np.ones(shape, bool) if scan.mask is None or scan.mask.shape != shape else ~scan.mask


def _doubts(patterns: np.ndarray, usable: np.ndarray) -> list[str]:
    found = []
    number, counts = len(patterns), patterns[:, usable]
    not_finite = int((~np.isfinite(counts)).any(1).sum())
    if not_finite:
        found.append(f"{not_finite} of {number} patterns have NaN or infinite pixels")
    blank = (counts == counts[:, :1]).all(1)
    if blank.any():
        found.append(f"{blank.sum()} of {number} patterns are the same in every pixel")
    shown = np.where(np.isfinite(patterns) & usable, patterns, 0)[~blank]
    if len(shown) and seem_exchanged(shown.sum((1, 2), dtype=float), shown.mean(0, dtype=float)):
        found.append(
            "patterns differ more than their pixels: are the axes of scan and detector exchanged? give axes"
        )
    if patterns.dtype.kind in "ui":
        top = np.iinfo(patterns.dtype).max
        pixels = int((counts == top).any(0).sum())
        if pixels:
            found.append(
                f"{pixels} pixels reach {top}, the largest {patterns.dtype}: masked or saturated"
            )
        low, high = int(counts.min()), int(counts.max())
        if low < np.iinfo(patterns.dtype).min / 2 < 0 and high > top / 2:
            found.append(
                f"counts from {low} to {high} fill {patterns.dtype}: without a sign? give dtype u{patterns.dtype}"
            )
    finite = np.abs(counts[np.isfinite(counts)].astype(float))
    if patterns.dtype.kind == "f" and finite.size and finite.max() > ABSURD * _typical(finite):
        found.append(
            f"counts up to {finite.max():.1e} where {_typical(finite):.1e} is usual: wrong type or shape?"
        )
    return found


def _typical(sizes: np.ndarray) -> float:
    """Median of those that are not zero."""
    return float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 1.0
