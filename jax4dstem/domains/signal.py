r"""What of a scan's scores is signal: what neighboring positions share, cleaned as far as its noise asks for.

With the covariance S of scores at neighboring positions (24 around each) and the covariance D of the differences of the nearest (halved), the generalized
eigenvectors of

.. math:: S \, v = λ \, D \, v

are sorted by signal over noise λ. Noise differs from position to position and has no part in S; edges of domains are few, and the
quieter half of the differences, which D is taken of, has none. A component counts where λ is above what the same scores give in
random order. A few positions far from the others, or a small D, make λ large by chance; that a scan has order is therefore told by the
correlation of neighbors, too, with what is far from the median counted as less far (Moran's I). In a scan without order, such as a
collection of patterns, scores are taken as they are.

References: P. Switzer and A. Green, min/max autocorrelation factors (Stanford, 1984), for the eigenvectors; P. A. P. Moran, Biometrika 37, 17 (1950).
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg, ndimage, stats

from jax4dstem.domains.spread import middle_two_thirds
from jax4dstem.rows import evenly_spaced, to_map, to_rows

MOST = 24  # components: neighborhoods of points have no meaning in many dimensions
UNORDERED = 10  # components of a scan without order, those of most variance
ORDERS = 5  # random ones: a few outliers that come to lie side by side have a large λ
ORDERED = 1.5  # times their largest λ, at which a scan has order, and a component signal: noise, also with outliers or long tails, had 1.3 at most of 120 scans
# Components, those of largest λ, of which a scan's order is told. With the factor above 64 shuffled scans of tilted crystals have none (3 have by λ alone), and
# scans of grains with 300 electrons have 1.8 times the most of random orders.
LOOKED = 8
FAR = 5.0  # standard deviations from the median, beyond which all count alike: few positions lie there by chance
NEAR = 2  # positions in y and in x: neighbors that signal is shared with; more of them tell fainter signal, in fewer small domains
PAIRS = 4  # of neighbors, per component, from which its noise is known
SCALED = 10_000  # differences that the scale of each component is taken of
# Reach of the mean over neighbors, by λ: two domains differ by some sqrt(8 λ) standard deviations, 9 at 10, which need no help.
REACH = ((10.0, 0.0), (1.0, 0.8), (0.0, 1.5))


class Signal(NamedTuple):
    """Components of signal.

    Attributes:
        points: One row per valid position, ``(n, d)``; in units of the noise where the scan has order.
        ratio: Signal over noise λ of each, ``(d,)``; empty where the scan has no order.
        measured: The same as the points, but no means over neighbors.
    """

    points: np.ndarray
    ratio: np.ndarray
    measured: np.ndarray


def signal_components(scores: np.ndarray, valid: np.ndarray, *, seed: int = 0) -> Signal:
    """Signal of a scan's scores.

    Args:
        scores: ``(scan_y, scan_x, m)``.
        valid: Positions that count, ``(scan_y, scan_x)``.
        seed: Of the random order.

    Returns:
        Its components.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.standard_normal((20, 20, 3))
        >>> scores[:, 10:, 1] += 8
        >>> found = signal_components(scores, np.ones((20, 20), bool))
        >>> found.points.shape, bool(found.ratio[0] > 5)
        ((400, 1), True)
    """
    rows = to_rows(scores, valid)
    rows = rows[:, : max(2 * len(rows) // PAIRS, 1)]
    rows = rows - rows.mean(axis=0)
    rng = np.random.default_rng(seed)
    ratio, vectors = _factors(to_map(rows, valid, 0.0), valid)
    random = [rng.permutation(rows) for _ in range(ORDERS)]
    by_chance = [_factors(to_map(order, valid, 0.0), valid) for order in random]
    clear = ratio > ORDERED * max(of.max(initial=0.0) for of, _ in by_chance)
    alike = max(
        _alike(order @ axes[:, :LOOKED], valid).max(initial=0.0)
        for order, (_, axes) in zip(random, by_chance, strict=True)
    )
    ordered = clear[:LOOKED] & (_alike(rows @ vectors[:, :LOOKED], valid) > ORDERED * alike)
    count = int(min(clear.sum(), MOST))
    if not ordered.any():
        first = rows[:, :UNORDERED].astype(np.float64)
        return Signal(first, np.zeros(0), first)
    measured = rows @ vectors[:, :count]
    maps = to_map(measured, valid, 0.0)
    cleaned = [
        _mean_around(maps[..., n], valid, next(reach for least, reach in REACH if of >= least))
        for n, of in enumerate(ratio[:count])
    ]
    return Signal(np.stack(cleaned, axis=-1)[valid], ratio[:count], measured)


def _factors(maps: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """λ, largest first, and their vectors as columns; none where there are too few neighbors. Maps are 0 where not valid."""
    pairs = [
        (maps[:-1][both], maps[1:][both]) if axis == 0 else (maps[:, :-1][both], maps[:, 1:][both])
        for axis, both in enumerate((valid[:-1] & valid[1:], valid[:, :-1] & valid[:, 1:]))
    ]
    first, second = (np.concatenate(part) for part in zip(*pairs, strict=True))
    size = maps.shape[-1]
    if len(first) < PAIRS * size:
        return np.zeros(0), np.zeros((size, 0))
    shared = (
        maps[valid].T @ sum_around(maps, NEAR)[valid] / sum_around(valid * 1.0, NEAR)[valid].sum()
    )
    apart = first - second
    some = apart[evenly_spaced(len(apart), SCALED)]
    scale = np.maximum(np.median(some**2, axis=0), 1e-30)
    far = np.einsum("ij,ij,j->i", apart, apart, 1 / scale)
    quiet = apart[far <= np.median(far)]
    # What the quieter half of χ² with m degrees of freedom has of the whole's mean.
    part = stats.chi2.cdf(stats.chi2.median(size), size + 2) / 0.5
    noise = (quiet.T @ quiet / (2 * len(quiet) * part)).astype(np.float64)
    noise += 1e-9 * np.trace(noise) / size * np.eye(size) + 1e-30 * np.eye(size)
    ratio, vectors = linalg.eigh(((shared + shared.T) / 2).astype(np.float64), noise)
    return ratio[::-1], vectors[:, ::-1]


def _alike(components: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Correlation of neighbors in every component ``(n, d)``; it is hardly more for what a few positions have."""
    center, spread = middle_two_thirds(components)
    near = np.clip((components - center) / np.maximum(spread, 1e-30), -FAR, FAR)
    near -= near.mean(axis=0)
    together = near * sum_around(to_map(near, valid, 0.0), NEAR)[valid]
    pairs = sum_around(valid * 1.0, NEAR)[valid].sum()
    variance = np.maximum((near**2).mean(axis=0), 1e-30)
    return together.sum(axis=0) / np.maximum(pairs, 1.0) / variance


def sum_around(maps: np.ndarray, near: int) -> np.ndarray:
    """Sum over the neighbors of every position, itself left out, ``(scan_y, scan_x, ...)``.

    Args:
        maps: The same shape.
        near: Positions in y and in x that neighbors are away, at most.

    Returns:
        The sums; where all neighbors are 0, what rounding leaves.

    Example:
        >>> sum_around(np.eye(3), 1).round(6)[1].tolist()
        [2.0, 2.0, 2.0]
    """
    side = 2 * near + 1
    return side**2 * ndimage.uniform_filter(maps, side, mode="constant", axes=(0, 1)) - maps


def _mean_around(values: np.ndarray, valid: np.ndarray, reach: float) -> np.ndarray:
    """Gaussian mean over valid neighbors."""
    if not reach:
        return values
    weight = ndimage.gaussian_filter(valid.astype(float), reach)
    return ndimage.gaussian_filter(np.where(valid, values, 0.0), reach) / np.maximum(weight, 1e-9)
