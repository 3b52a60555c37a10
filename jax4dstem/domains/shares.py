r"""How much of each domain a position shows, from features that are linear in the counts.

A linear discriminant analysis turns features into coordinates y in which every domain scatters by one in all directions around its
middle c. A position with a share s of domain a and the rest of b lies at

.. math:: y = s \, c_a + (1 - s) \, c_b ,

give or take one; the pair of domains that leaves the smallest rest is taken, which distances to the middles alone tell:

.. math:: |y - s \, c_a - (1 - s) \, c_b|^2 = s \, |y - c_a|^2 + (1 - s) \left( |y - c_b|^2 - s \, |c_a - c_b|^2 \right) .

Domains are learned from positions that are clearly theirs,
so what varies inside a domain, such as strain, tilt or thickness, has no part in the shares.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.stats import norm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import pairwise

from jax4dstem.rows import to_map

ROUNDS = 3  # of learning domains and sharing positions out, after which few change
PURE = 0.85  # share from which on a position is clearly a domain's
FEWEST = 3  # positions that a domain is learned from
MIXED = 3.0  # standard errors above zero of the smaller share, from which on there is one
BETWEEN = 0.1  # share of either of two domains, at least, of one that lies between them
# Distance from the line between two domains over theirs, below which one is a mixture of them: of mixtures at rims 0.05 to 0.07,
# of domains that are none, on several specimens, 0.37 and more.
ON_LINE = 0.2
THIN = 0.25  # of its positions that have only their like on all four sides: fewer in a rim of two positions
RIDGE = 1e-6  # of the mean variance


class Shares(NamedTuple):
    """Domains of positions.

    Attributes:
        label: Domain with the largest share, ``(n,)``.
        confidence: Probability that its share is the larger one, the same shape.
        second: The other domain; -1 where it has no significant share; the same shape.
        share: Of the first domain, the same shape.
    """

    label: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    share: np.ndarray


def share_out(features: np.ndarray, labels: np.ndarray) -> Shares:
    """The domain of every position by its largest share.

    Args:
        features: Linear in the counts, ``(n, d)``.
        labels: A first guess, numbered from 0, ``(n,)``.

    Returns:
        Domains, numbered as in the guess.

    Example:
        >>> features = np.random.default_rng(0).normal(0, 1, (200, 2))
        >>> features[100:] += 20
        >>> features[0] = [7, 7]  # two thirds of the first, one third of the second
        >>> found = share_out(features, np.repeat([0, 1], 100))
        >>> found.label[0].item(), found.second[0].item(), round(found.share[0].item(), 1)
        (0, 1, 0.6)
    """
    if labels.max() < 1:
        return keep_whole(features, labels)
    found = _shares(features, labels, np.ones(len(labels), bool))
    for _ in range(ROUNDS - 1):
        guess, clear = found.label, found.share > PURE
        for domain in np.unique(labels):
            if np.sum(clear & (guess == domain)) < FEWEST:
                clear |= labels == domain
                guess = np.where(labels == domain, domain, guess)
        found = _shares(features, guess, clear)
    return found


def keep_whole(features: np.ndarray, labels: np.ndarray) -> Shares:
    """Every position is its domain's alone: features that are not linear in the counts tell no shares.

    Args:
        features: ``(n, d)``.
        labels: Domains, numbered from 0, ``(n,)``.

    Returns:
        The same domains; the confidence is the probability of the position's own domain, where all domains scatter alike.

    Example:
        >>> features = np.random.default_rng(0).normal(0, 1, (200, 2))
        >>> features[100:] += 20
        >>> found = keep_whole(features, np.repeat([0, 1], 100))
        >>> found.share.min().item(), round(found.confidence.min().item(), 3)
        (1.0, 1.0)
    """
    own, none = np.ones(len(labels)), np.full(len(labels), -1)
    if labels.max() < 1:
        return Shares(labels, own, none, own)
    model = LinearDiscriminantAnalysis().fit(features, labels)
    probability = model.predict_proba(features)[np.arange(len(labels)), labels]
    return Shares(labels, probability, none, own)


def without_mixtures(features: np.ndarray, labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Take away thin domains that are mixtures of two others, as a probe makes them along a rim; their positions go to the two.

    Args:
        features: Linear in the counts, ``(n, d)``.
        labels: Domains, numbered from 0, ``(n,)``.
        valid: The n positions, boolean ``(scan_y, scan_x)``.

    Returns:
        The domains that are left, numbered from 0.

    Example:
        >>> features = np.random.default_rng(0).normal(0, 1, (300, 2))
        >>> features[100:200] += 30
        >>> features[200:] += [30, 0]
        >>> features[80:100] = 18  # two rows
        >>> labels = np.repeat([0, 3, 1, 2], [80, 20, 100, 100])
        >>> np.bincount(without_mixtures(features, labels, np.ones((30, 10), bool))).tolist()
        [80, 120, 100]
    """
    labels = np.unique(labels, return_inverse=True)[1]
    while labels.max() > 1:
        found = _mixture(features, labels, _inner(labels, valid) < THIN)
        if found is None:
            break
        labels = np.where(labels == found[0], found[1], labels)
        labels = np.unique(labels, return_inverse=True)[1]
    return labels


def inside_domains(labels: np.ndarray) -> np.ndarray:
    """Positions of a map of domains that have only their like on all four sides, ``(scan_y, scan_x)``.

    Args:
        labels: ``(scan_y, scan_x)``; -1 where there is none.
    """
    parts = [labels == n for n in range(labels.max() + 1)]
    return np.any([ndimage.binary_erosion(part) for part in parts], axis=0)


def _inner(labels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Share of every domain's positions that are inside of it."""
    maps = to_map(labels, valid, -1)
    inside = maps[inside_domains(maps)]
    return np.bincount(inside, minlength=labels.max() + 1) / np.bincount(labels)


def _mixture(
    features: np.ndarray, labels: np.ndarray, thin: np.ndarray
) -> tuple[int, np.ndarray] | None:
    """The domain that is most clearly a mixture of two others, and the nearer of these for every position."""
    number, size = labels.max() + 1, features.shape[1]
    middles = np.array([features[labels == n].mean(axis=0) for n in range(number)])
    inner = features - middles[labels]
    within = inner.T @ inner / max(len(features) - number, 1) + 1e-30 * np.eye(size)
    precision = np.linalg.inv(within + RIDGE * np.trace(within) / size * np.eye(size))
    best, least = None, ON_LINE
    for a in range(number):
        for b in range(a):
            apart = middles[a] - middles[b]
            along = precision @ apart
            length = apart @ along
            share = (middles - middles[b]) @ along / length
            off = middles - middles[b] - share[:, None] * apart
            distance = np.sqrt(np.einsum("ni,ij,nj->n", off, precision, off) / length)
            distance[~thin | (share < BETWEEN) | (share > 1 - BETWEEN)] = np.inf
            mixed = int(distance.argmin())
            if distance[mixed] < least:
                least = distance[mixed]
                nearer = (features - middles[b]) @ along / length > 0.5
                best = mixed, np.where(nearer, a, b)
    return best


def _shares(features: np.ndarray, guess: np.ndarray, clear: np.ndarray) -> Shares:
    """Shares of the domains that the clear positions are guessed to be."""
    model = LinearDiscriminantAnalysis().fit(features[clear], guess[clear])
    coordinates, domains = model.transform(features), model.classes_
    middles = np.array([coordinates[clear & (guess == n)].mean(axis=0) for n in domains])
    # Of each domain a column, which the loop over pairs reads as a whole.
    away = np.asfortranarray(pairwise.euclidean_distances(coordinates, middles, squared=True))
    apart = pairwise.euclidean_distances(middles, squared=True)
    rest = np.full(len(features), np.inf)
    pair, share = np.zeros((len(features), 2), int), np.ones(len(features))
    for a in range(len(domains)):
        for b in range(a):
            of_a = np.clip((away[:, b] - away[:, a]) / (2 * apart[a, b]) + 0.5, 0, 1)
            left = of_a * away[:, a] + (1 - of_a) * (away[:, b] - of_a * apart[a, b])
            better = left < rest
            rest[better], pair[better], share[better] = left[better], (a, b), of_a[better]
    swap = share < 0.5
    first, second = np.where(swap, pair[:, 1], pair[:, 0]), np.where(swap, pair[:, 0], pair[:, 1])
    share = np.maximum(share, 1 - share)
    apart = np.linalg.norm(middles[first] - middles[second], axis=1)
    mixed = (1 - share) * apart > MIXED
    return Shares(
        domains[first],
        norm.cdf((share - 0.5) * apart),
        np.where(mixed, domains[second], -1),
        share,
    )
