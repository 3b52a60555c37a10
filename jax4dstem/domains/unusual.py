r"""Positions unlike any domain: what no mixture of the domains explains, in units of how positions of the domains scatter.

Scores u, in which every domain scatters by one in all directions, are taken without the span of the domains' means, so that no mixture of any
number of domains is unusual. Their square, and what the scores leave of the features, are compared with those of the other positions of the
same domain: their logarithms are close to normal, and their tails lighter.
"""

import numpy as np
from scipy import linalg, stats

from jax4dstem.anomaly import false_discovery
from jax4dstem.domains.spread import middle_two_thirds

DISCOVERY_RATE = 0.05  # of unusual positions that are none
KNOWN = 30  # positions that a domain's own spread is taken from; of fewer it is that of all
RIDGE = 1e-6  # of the mean variance


def typicality(
    scores: np.ndarray, rest: np.ndarray, labels: np.ndarray, mixed: np.ndarray
) -> np.ndarray:
    """Probability that a position of the domains is as unlike them, ``(n,)``.

    Args:
        scores: Principal components of features with equal noise, ``(n, d)``.
        rest: Squares of what they leave of the features, ``(n,)``.
        labels: Domain of every position, numbered from 0, ``(n,)``.
        mixed: Whether it shows another one, too; what varies inside domains makes such positions scatter more, ``(n,)``.

    Returns:
        Probabilities; uniform where nothing is unusual.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores, labels = rng.normal(0, 1, (400, 6)), np.repeat([0, 1], 200)
        >>> scores[200:, 0] += 20
        >>> scores[0, 0] = 10  # half of each
        >>> scores[1, 1] = 9  # neither
        >>> found = typicality(scores, rng.chisquare(50, 400), labels, labels < 0)
        >>> bool(found[0] > 0.01), bool(found[1] < 1e-4)
        (True, True)
    """
    means = np.array([np.median(scores[labels == n], axis=0) for n in range(labels.max() + 1)])
    outside = _outside(scores, means, labels)
    measures = [rest] if outside is None else [outside, rest]
    kinds = np.unique(2 * labels + mixed, return_inverse=True)[1]
    z = np.max([_deviation(np.log(np.maximum(each, 1e-30)), kinds) for each in measures], axis=0)
    return np.minimum(len(measures) * stats.norm.sf(z), 1.0)


def unusual_positions(probability: np.ndarray) -> np.ndarray:
    """Which positions are unusual, so that at most one in twenty of them is so by chance.

    Args:
        probability: From `typicality`.
    """
    return false_discovery(probability, DISCOVERY_RATE)


def _outside(scores: np.ndarray, means: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Squared distance from the span of the domains' means; None where that is everything."""
    size = scores.shape[1]
    if len(means) > size:
        return None
    from_mean = scores - means[labels]
    # Mixtures at borders and what is unusual lie far from the means: the nearer half tells how domains scatter.
    near = np.sum(from_mean**2, axis=1)
    inner = from_mean[near <= np.median(near)]
    within = inner.T @ inner / len(inner)
    within += (RIDGE * np.trace(within) / size + 1e-30) * np.eye(size)
    whiten = linalg.inv(linalg.cholesky(within, lower=True)).T
    along = (means[1:] - means[0]) @ whiten
    basis = linalg.orth(along.T) if len(along) else np.zeros((size, 0))
    white = (scores - means[0]) @ whiten
    return np.sum((white - white @ basis @ basis.T) ** 2, axis=1)


def _deviation(values: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Standard deviations above the median of the same kind of positions, as its middle two thirds have them."""
    of_all = middle_two_thirds(values)
    deviation = np.empty(len(values))
    for n in range(kinds.max() + 1):
        own = kinds == n
        center, spread = middle_two_thirds(values[own]) if own.sum() >= KNOWN else of_all
        deviation[own] = (values[own] - center) / max(spread, 1e-30)
    return deviation
