"""Counts of a powder: the sum of all patterns, shifted by whole pixels so that counts stay counts."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.detector import Detector
from jax4dstem.noise import Noise
from jax4dstem.patterns.align import middle
from jax4dstem.reducers import Mean
from jax4dstem.stream import reduce_patterns
from jax4dstem.typing import Array

BLOCK = 64, 4096  # numbers of sums are rounded up to one of these, so that few shapes are compiled


class Counts(NamedTuple):
    """Sums of counts, of pixels or of rings of them: what a `RingModel` is fitted to."""

    y: Any  # px, (n,)
    x: Any
    counts: Any  # electrons, in all
    pixels: Any  # how many were summed

    def noise(self, detector: Detector) -> Noise:
        """Of every sum."""
        return detector.noise.summed(self.pixels)


def padded(y: Any, x: Any, counts: Any, pixels: Any) -> Counts:
    """Sums, and some of no pixels behind them."""
    block = BLOCK[len(counts) > BLOCK[1]]
    more = -len(counts) % block
    ends = [np.pad(part, (0, more), mode="edge") for part in (y, x)]
    sums = [np.pad(part, (0, more)) for part in (counts, pixels)]
    return Counts(*(np.asarray(part, np.float32) for part in (*ends, *sums)))


class Summed(NamedTuple):
    """A scan's sum."""

    counts: np.ndarray  # electrons, (det_y, det_x)
    patterns: np.ndarray  # that a pixel has counts of, the same shape
    shift: np.ndarray  # mean (y, x) by which patterns were moved

    @property
    def mean(self) -> np.ndarray:
        """Mean pattern; 0 where nothing was seen."""
        return self.counts / np.maximum(self.patterns, 1)

    def annulus(self, radii: np.ndarray, inner: float, outer: float) -> Counts:
        """The counts of the pixels between two radii, given the radius of every pixel."""
        used = (self.patterns > 0) & (radii >= inner) & (radii <= outer)
        y, x = np.nonzero(used)
        return padded(y, x, self.counts[used], self.patterns[used])


def sum_patterns(scan: Dataset, center: np.ndarray, used: np.ndarray, detector: Detector) -> Summed:
    """Sum of a scan's patterns, every direct beam within half a pixel of the middle."""
    target = np.asarray(middle(scan.pattern_shape), np.float64)
    shift = np.asarray(np.rint(target - np.nan_to_num(center)), np.int32)
    moved = scan.map(_shifted, detector.as_arrays(), per_position=(shift,))
    counts, known = reduce_patterns(Mean(), moved, weights=used, progress="adding patterns")
    n = int(np.count_nonzero(used))
    patterns = np.rint(n * np.asarray(known, np.float64))
    return Summed(n * np.asarray(counts, np.float64), patterns, np.mean(shift[used], axis=0))


def _shifted(pattern: Array, shift: Array, detector: Any) -> tuple[Array, Array]:
    """Counts and which pixels know them, moved by whole pixels; what comes from beyond the rim is unknown."""
    usable = detector.usable(pattern)
    inside = jnp.ones(pattern.shape, bool)
    for axis, by in enumerate(shift):
        place = jnp.arange(pattern.shape[axis]) - by
        known = (place >= 0) & (place < pattern.shape[axis])
        inside &= known[:, None] if axis == 0 else known
    usable = jnp.roll(usable, shift, (0, 1)) & inside
    counts = jnp.roll(pattern.astype(float), shift, (0, 1))
    return jnp.where(usable, counts, 0.0), usable.astype(float)
