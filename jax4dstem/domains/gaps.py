"""Is there a gap between two sets of points? What has none is one domain that varies."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

VALLEY = 0.6  # of the lower peak: what is left in a gap, at most
SEEN = 3.0  # standard deviations by which a gap must be deeper than chance
# A deep gap in one direction alone may be a fold of a curved set; where points are many it is none.
SURE = 6.0
APART = 1.75  # times the distance of nearest neighbors: what a chain of neighbors does not bridge
NEAREST = 5  # nearest sets that one is compared with
RIDGE = 0.05  # of the mean variance, for sets of fewer points than dimensions
SHOWN = 1500  # points of a set that distances are taken of


class Gap(NamedTuple):
    """What lies between two sets.

    Attributes:
        valley: Density in the gap over that of the lower peak; 1 where there is no gap.
        significance: Of that, in standard deviations.
        distance: Of the sets, in units of the distance of nearest neighbors inside them.
    """

    valley: float
    significance: float
    distance: float

    @property
    def parts(self) -> bool:
        """Whether the sets are two."""
        deep = self.valley < VALLEY and self.significance > SEEN
        return deep and (self.distance > APART or self.significance > SURE)


def join_without_gaps(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Join sets, the most alike first, until there is a gap between any two that are near each other.

    Args:
        points: ``(n, d)``.
        labels: Set of every point, ``(n,)``, numbered from 0.

    Returns:
        The sets that are left, numbered from 0, ``(n,)``.

    Example:
        >>> points = np.random.default_rng(0).normal(0, 1, (400, 2))
        >>> points[:100] += 12
        >>> halves = np.where(points[:, 0] > 6, 0, 1 + (points[:, 0] > 0))
        >>> np.bincount(join_without_gaps(points, halves)).tolist()
        [100, 300]
    """
    labels, known = np.unique(labels, return_inverse=True)[1], {}
    while labels.max() > 0:
        means = np.array([points[labels == n].mean(axis=0) for n in range(labels.max() + 1)])
        nearest = np.argsort(cdist(means, means), axis=1)[:, 1 : NEAREST + 1]
        pairs = {tuple(sorted((n, int(m)))) for n, row in enumerate(nearest) for m in row}
        worst = None
        for pair in sorted(pairs):
            sets = [np.flatnonzero(labels == n) for n in pair]
            key = tuple((int(rows[0]), len(rows)) for rows in sets)
            if key not in known:
                known[key] = gap_between(points[sets[0]], points[sets[1]])
            gap = known[key]
            if not gap.parts and (worst is None or _alike(gap) > _alike(worst[0])):
                worst = gap, pair
        if worst is None:
            break
        labels[labels == worst[1][1]] = worst[1][0]
        labels = np.unique(labels, return_inverse=True)[1]
    return labels


def _alike(gap: Gap) -> tuple[float, float]:
    return gap.valley, -gap.significance


def gap_between(first: np.ndarray, second: np.ndarray) -> Gap:
    """The gap in the direction that tells two sets apart best, found with one half of the points and looked at with the other.

    Args:
        first: ``(n, d)``.
        second: ``(m, d)``.

    Returns:
        Its depth, significance and width.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> one, other = rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (200, 3))
        >>> gap_between(one, other + 9).parts, gap_between(one[one[:, 0] < 0], one[one[:, 0] > 0]).parts
        (True, False)
    """
    rng = np.random.default_rng(0)
    first, second = (part[rng.permutation(len(part))] for part in (first, second))
    if min(len(first), len(second)) < 6:
        return Gap(0.0, 0.0, 0.0)
    ends = []
    for half in (0, 1):
        axis = _discriminant(first[half::2], second[half::2])
        seen = [part[1 - half :: 2] @ axis for part in (first, second)]
        low, high = (float(np.median(part)) for part in seen)
        if high <= low:
            return Gap(1.0, 0.0, 0.0)
        ends.append([(part - low) / (high - low) for part in seen])
    one, other = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    valley, significance = _valley(one, other)
    return Gap(valley, significance, _distance(first[:SHOWN], second[:SHOWN]))


def _discriminant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    size = first.shape[1]
    spread = [np.cov(part.T).reshape(size, size) * len(part) for part in (first, second)]
    within = (spread[0] + spread[1]) / (len(first) + len(second))
    within += RIDGE * np.trace(within) / size * np.eye(size) + 1e-30 * np.eye(size)
    return np.linalg.solve(within, second.mean(axis=0) - first.mean(axis=0))


def _valley(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Depth between two sets around 0 and 1 on a line, and its significance."""
    width = min(float(np.std(one)), float(np.std(other)), 0.4)
    # Silverman's rule for the smaller set.
    width = max(0.9 * width * min(len(one), len(other)) ** -0.2, 0.03)
    grid = np.linspace(-0.2, 1.2, 141)
    offsets = (grid[:, None] - np.concatenate([one, other])) / width
    counts = np.exp(-0.5 * offsets**2).sum(axis=1)
    left, right = int(counts[:71].argmax()), 70 + int(counts[70:].argmax())
    peak = float(min(counts[left], counts[right]))
    valley = float(counts[left : right + 1].min())
    return valley / max(peak, 1e-30), 2 * float(np.sqrt(peak) - np.sqrt(valley))


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Third smallest distance from one set to the other, over the distance of nearest neighbors that one in ten exceeds."""
    across = cdist(first, second)
    third = max(float(np.sort(across.min(axis=n))[2]) for n in (0, 1))
    inside = [np.sort(cdist(part, part), axis=1)[:, 1] for part in (first, second)]
    return third / max(max(float(np.quantile(part, 0.9)) for part in inside), 1e-30)
