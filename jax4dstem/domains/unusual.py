r"""Positions unlike any domain: what no mixture of the domains nearby explains, in units of how positions of the domains scatter.

Four things are looked at, and the first with the last. **Outside**: scores u, in which every domain scatters by one in all directions, without the span of the means of the
domains that are under the probe, so that no mixture of them is unusual. **As its neighbors**: what is left along what is left of the eight
positions around, since what is foreign often fills several positions, of which none is unusual by itself. **Amount**: what is left along the way to
an empty pattern, since damage, contamination and holes take or add electrons. **Rest**: what the scores leave of the features.
Squares have a χ² distribution, the cube roots of which are close to normal (Wilson and Hilferty); all are compared with the other positions of the
same domain.
"""

import numpy as np
from scipy import linalg, ndimage, stats

from jax4dstem.anomaly import false_discovery
from jax4dstem.domains.signal import sum_around
from jax4dstem.domains.spread import middle_two_thirds
from jax4dstem.rows import to_map

DISCOVERY_RATE = 0.05  # of unusual positions that are none
KNOWN = 30  # positions that a domain's own spread is taken from; of fewer it is that of all
RIDGE = 1e-6  # of the mean variance
# Quantile of all positions that says how long the tails of a scan are: fields inside domains, such as bending, have longer ones than noise, and what is
# unusual is rarer than one in twenty.
TAIL = 0.95
ALIKE = 1e-5  # of the largest value: what single precision leaves of equal ones
UNDER = 2  # positions from which a probe reaches another domain


def typicality(
    scores: np.ndarray,
    rest: np.ndarray,
    labels: np.ndarray,
    empty: np.ndarray,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """Probability that a position of the domains is as unlike them, ``(n,)``.

    Args:
        scores: Principal components of features with equal noise, ``(n, d)``.
        rest: Squares of what they leave of the features, ``(n,)``.
        labels: Domain of every position, numbered from 0, ``(n,)``.
        empty: Scores of a pattern without electrons, ``(d,)``.
        valid: The n positions, boolean ``(scan_y, scan_x)``; None where they have no order: then all domains are nearby.

    Returns:
        Probabilities; uniform where nothing is unusual.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores, labels = rng.normal(0, 1, (400, 6)), np.repeat([0, 1], 200)
        >>> scores[200:, 0] += 20
        >>> scores[0, 0] = 10  # half of each
        >>> scores[1, 1] = 9  # neither
        >>> found = typicality(scores, rng.chisquare(50, 400), labels, np.full(6, -50.0))
        >>> bool(found[0] > 0.01), bool(found[1] < 1e-4)
        (True, True)
    """
    near = _nearby(labels, valid)
    left, to_empty = _left(scores, labels, near, empty)
    kinds = np.unique(2 * labels + (near.sum(axis=1) > 1), return_inverse=True)[1]
    foreign = [_deviation(np.cbrt(rest), kinds)]
    chances = []
    if np.any(left):  # domains in as many directions as there are scores leave nothing
        outside = _deviation(np.cbrt(np.sum(left**2, axis=1)), kinds)
        foreign += [outside, (outside + foreign[0]) / np.sqrt(2)]
        amount = np.abs(_deviation(_along(left, to_empty), kinds))
        chances += [2 * stats.norm.sf(amount)]  # less or more
    if np.any(left) and valid is not None:
        neighbors = sum_around(valid * 1.0, 1)[valid, None]  # of eight
        around = np.where(neighbors < 0.5, 0.0, sum_around(to_map(left, valid, 0.0), 1)[valid])
        foreign += [_deviation(_along(left, around), kinds)]
    chances += [stats.norm.sf(each) for each in foreign]
    return np.minimum(len(chances) * np.min(chances, axis=0), 1.0)


def unusual_positions(probability: np.ndarray) -> np.ndarray:
    """Which positions are unusual, so that at most one in twenty of them is so by chance.

    Args:
        probability: From `typicality`.
    """
    return false_discovery(probability, DISCOVERY_RATE)


def _nearby(labels: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Which domains a probe at each position may see, ``(n, domains)``."""
    number = labels.max() + 1
    if valid is None:
        return np.ones((len(labels), number), bool)
    domains, reach = to_map(labels, valid, -1), np.ones((2 * UNDER + 1,) * 2, bool)
    seen = [ndimage.binary_dilation(domains == n, reach)[valid] for n in range(number)]
    return np.stack(seen, axis=1)


def _left(
    scores: np.ndarray, labels: np.ndarray, near: np.ndarray, empty: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What no mixture of the nearby domains explains, of every position and of an empty pattern there; domains scatter by one."""
    number, size = labels.max() + 1, scores.shape[1]
    means = np.array([np.median(scores[labels == n], axis=0) for n in range(number)])
    from_mean = scores - means[labels]
    # Mixtures at borders and what is unusual lie far from the means: the nearer half tells how domains scatter.
    distance = np.sum(from_mean**2, axis=1)
    inner = from_mean[distance <= np.median(distance)]
    within = inner.T @ inner / len(inner)
    within += (RIDGE * np.trace(within) / size + 1e-30) * np.eye(size)
    whiten = linalg.inv(linalg.cholesky(within, lower=True)).T
    left, to_empty = from_mean @ whiten, (empty - means[labels]) @ whiten
    alike, groups = np.unique(np.column_stack([labels, near]), axis=0, return_inverse=True)
    for group, (own, *seen) in enumerate(alike):
        others = (means[np.flatnonzero(seen)] - means[own]) @ whiten
        basis, rows = linalg.orth(others.T), np.ravel(groups) == group
        left[rows] -= left[rows] @ basis @ basis.T
        to_empty[rows] -= to_empty[rows] @ basis @ basis.T
    return left, to_empty


def _along(left: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Components along a way of every position, ``(n, d)`` each."""
    length = np.linalg.norm(way, axis=1)
    return np.sum(left * way, axis=1) / np.maximum(length, 1e-30)


def _deviation(values: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Standard deviations above the median of the same kind of positions, as its middle two thirds have them, or the scan's tails where they are longer."""
    of_all = middle_two_thirds(values)
    deviation = np.empty(len(values))
    for n in range(kinds.max() + 1):
        own = kinds == n
        center, spread = middle_two_thirds(values[own]) if own.sum() >= KNOWN else of_all
        # Two thirds alike: an electron here and there, as in clean vacuum, says nothing of how positions scatter.
        scattered = spread > ALIKE * np.abs(values[own]).max()
        deviation[own] = (values[own] - center) / spread if scattered else 0.0
    low, high = np.quantile(deviation, [1 - TAIL, TAIL]) / stats.norm.ppf([1 - TAIL, TAIL])
    return deviation / np.where(deviation > 0, max(high, 1.0), max(low, 1.0))
