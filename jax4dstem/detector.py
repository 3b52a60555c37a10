"""The detector that counted: its noise, its saturation, and which of its pixels can be used."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jax4dstem.noise import COUNTED, Noise, effective_electrons
from jax4dstem.typing import Array, Bool, Float, Pattern, Real, Scalar

FEWEST_COUNTS = 20.0  # electrons in all patterns, of which a pixel sees none by chance in 5e8
AROUND = 2  # px: how far the rim of a saturated disk reaches
ENCLOSED = 3  # px within which a dead line has counts on both sides; wider gaps are regions
LIT = 10.0  # electrons in all patterns at the border of a region behind a stop; at the feet of disks, beside darkness, some 3


class Detector(NamedTuple):
    """What all patterns of a scan owe to the detector; a frozen pytree.

    Attributes:
        noise: How counts scatter.
        saturation: Counts from which on a pixel says only that there were at least so many.
        mask: True for usable pixels, ``(det_y, det_x)``; None where all are.

    Example:
        >>> detector = Detector(saturation=100.0, mask=jnp.array([[True, False], [True, True]]))
        >>> detector.usable(jnp.array([[7.0, 7.0], [120.0, jnp.nan]])).tolist()
        [[True, False], [False, False]]
    """

    noise: Noise = COUNTED
    saturation: Scalar = np.inf
    mask: Bool[Array, "..."] | None = None

    def as_arrays(self) -> "Detector":
        """The same with arrays for numbers, which compiled functions do not tell from others of their shape."""
        return jax.tree.map(_as_array, self)

    def known(self, pattern: Real[Array, "..."]) -> Bool[Array, "..."]:
        """Pixels that say something, saturated ones included: not masked, and finite."""
        finite = jnp.isfinite(pattern)
        return finite if self.mask is None else finite & self.mask

    def usable(self, pattern: Real[Array, "..."]) -> Bool[Array, "..."]:
        """Pixels whose counts can be fitted: known and not saturated."""
        return self.known(pattern) & (pattern < self.saturation)

    def clip(self, pattern: Pattern) -> Float[Array, "det_y det_x"]:
        """Counts, saturated pixels at the saturation, and 0 where nothing is known."""
        counts = jnp.minimum(pattern.astype(float), self.saturation)
        known = jnp.isfinite(counts)
        return jnp.where(known if self.mask is None else known & self.mask, counts, 0.0)


IDEAL = Detector()  # counts every electron in every pixel


def _as_array(leaf: Any) -> Array:
    return jnp.asarray(leaf, bool if np.asarray(leaf).dtype == bool else float)


def pattern_dose(pattern: Pattern, detector: Detector) -> Float[Array, ""]:
    """Sum of the counts of all known pixels.

    Example:
        >>> float(pattern_dose(jnp.array([[1.0, jnp.nan], [3.0, 5.0]]), Detector()))
        9.0
    """
    return jnp.sum(jnp.where(detector.known(pattern), pattern, 0).astype(float))


def electrons_of(pattern: Pattern, offset: Scalar, gain: Scalar) -> Float[Array, "det_y det_x"]:
    """Electrons of counts, (n - offset) / gain.

    Args:
        pattern: Counts ``(det_y, det_x)``.
        offset: Counts without electrons.
        gain: Counts per electron.

    Returns:
        Electrons of every pixel; read-out noise leaves some below zero.

    Example:
        >>> electrons_of(jnp.array([[100, 160]]), 100.0, 20.0).tolist()
        [[0.0, 3.0]]
    """
    return (pattern.astype(float) - offset) / gain


def repair_pixels(pattern: Pattern, bad: Bool[Array, "det_y det_x"]) -> Float[Array, "det_y det_x"]:
    """Replace bad pixels by the mean of the good ones among their eight neighbors.

    Args:
        pattern: ``(det_y, det_x)``.
        bad: True where the detector is hot or dead, as from `find_bad_pixels`.

    Returns:
        The pattern in floating point; a bad pixel without good neighbors becomes 0.
    """
    counts, n = _sum_3x3(jnp.where(bad, 0.0, pattern)), _sum_3x3(jnp.where(bad, 0.0, 1.0))
    return jnp.where(bad, counts / jnp.maximum(n, 1), pattern)


def _sum_3x3(image: Array) -> Array:
    height, width = image.shape
    padded = jnp.pad(image, 1)
    rows = padded[:height] + padded[1:-1] + padded[2:]
    return rows[:, :width] + rows[:, 1:-1] + rows[:, 2:]


def find_bad_pixels(
    mean: np.ndarray,
    std: np.ndarray,
    n_patterns: int,
    *,
    contrast: float = 5.0,
) -> np.ndarray:
    """Find hot, stuck and dead detector pixels, single or in clusters, lines, gaps and beam stops.

    Electrons arrive at random, so that a pixel that never changes has seen none. Such a pixel is bad where the varying pixels
    on both sides of it have so many electrons that chance does not explain it, or where it holds another value than most such pixels.
    A region without counts is bad where most of its border has so many, as that of a beam stop, not that of the dark between disks. A pixel that is as bright as its surroundings and at the largest
    value of all is saturated, not bad. Optics spreads even a sharp spot over neighboring pixels: a varying pixel is hot
    when its mean exceeds ``contrast`` times *every* neighbor and the mean of the whole detector, unless it is the peak
    of the direct beam.

    Args:
        mean: ``(det_y, det_x)`` mean pattern.
        std: ``(det_y, det_x)`` standard deviation over the scan.
        n_patterns: Number of patterns behind them.
        contrast: How far a hot pixel stands out.

    Returns:
        Boolean ``(det_y, det_x)``, True for bad pixels.

    Example:
        >>> mean, std = np.full((8, 8), 9.0), np.full((8, 8), 3.0)
        >>> mean[2:4, 3] = 500.0
        >>> std[2:4, 3] = std[:, 6] = mean[:, 6] = 0.0
        >>> find_bad_pixels(mean, std, 100).sum(axis=0).tolist()
        [0, 0, 0, 2, 0, 0, 8, 0]
    """
    return _silent(mean, std, n_patterns, contrast) | _hot(mean, contrast)


def _hot(mean: np.ndarray, contrast: float) -> np.ndarray:
    mean = mean - min(0.0, float(np.median(mean)))  # a negative offset leaves no ratios
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    brightest_neighbor = ndimage.maximum_filter(mean, footprint=ring, mode="nearest")
    typical = np.maximum(mean, 0.0).mean()
    hot = mean > contrast * np.maximum(brightest_neighbor, typical)
    # A parallel beam may fall on one pixel: the heaviest 3 x 3 region without its center is its tail.
    tail = ndimage.convolve(mean, ring.astype(mean.dtype), mode="constant")
    y, x = np.unravel_index(np.argmax(np.where(hot, 0, tail)), mean.shape)
    hot[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = False
    return hot


def _silent(mean: np.ndarray, std: np.ndarray, n_patterns: int, contrast: float) -> np.ndarray:
    """Pixels that never change although electrons must have come, or that hold what no other silent pixel does."""
    varies = std > 0
    if n_patterns < 2 or not varies.any() or varies.all():
        return np.zeros(mean.shape, bool)
    electrons = n_patterns * effective_electrons(mean, std)
    values, number = np.unique(mean[~varies], return_counts=True)
    odd = mean != values[np.argmax(number)]
    lit = _enclosed(electrons, varies) > FEWEST_COUNTS
    top = mean >= mean[varies].max()
    saturated = top & (mean < contrast * _around(mean, varies))
    silent = ~varies & (lit | odd | top) & ~saturated
    return silent | _hidden(electrons, ~varies & (mean == 0))


def _around(values: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """The brightest varying pixel around; where there is none, around the nearest one."""
    brightest = ndimage.maximum_filter(np.where(varies, values, 0.0), 2 * AROUND + 1)
    nearest = ndimage.distance_transform_edt(~varies, return_distances=False, return_indices=True)
    return brightest[tuple(nearest)]


def _enclosed(values: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """What the nearest varying pixels on both sides have at least, along that of four lines where this is most.

    Beside the sharp edge of a disk one side is dark: an average of both would take darkness for dead pixels.
    """
    rows, cols = values.shape
    padded = np.pad(np.where(varies, values, 0.0), ENCLOSED)
    known = np.pad(varies, ENCLOSED)

    def nearest(dy: int, dx: int) -> np.ndarray:
        found, seen = np.zeros(values.shape), np.zeros(values.shape, bool)
        for step in range(1, ENCLOSED + 1):
            y, x = ENCLOSED + step * dy, ENCLOSED + step * dx
            window = slice(y, y + rows), slice(x, x + cols)
            found = np.where(seen, found, padded[window])
            seen |= known[window]
        return found

    lines = ((0, 1), (1, 0), (1, 1), (1, -1))
    return np.max([np.minimum(nearest(*line), nearest(-line[0], -line[1])) for line in lines], 0)


def _hidden(electrons: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Regions without counts whose border is lit, as of a beam stop or a dead part; one of most pixels is darkness."""
    ring = np.ones((3, 3), bool)
    regions, _ = ndimage.label(empty, ring)
    hidden = np.zeros(empty.shape, bool)
    for label, box in enumerate(ndimage.find_objects(regions), start=1):
        wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        region = regions[wide] == label
        border = ndimage.binary_dilation(region, ring) & ~empty[wide]
        lit = border.any() and np.median(electrons[wide][border]) > LIT
        hidden[wide] |= region & (lit and region.sum() < empty.size / 2)
    return hidden


__all__ = ["Detector"]
