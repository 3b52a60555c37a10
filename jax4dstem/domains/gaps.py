"""Is there a gap between two sets of points? What has none is one domain that varies.

Positions on a border of two domains show both and bridge the gap between them. They are told by the step across them: its two sides are the
two domains. Without them slices of a smooth field have a gap, too; but domains are farther apart than slices, for what they scatter.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from jax4dstem.domains.spread import middle_two_thirds

VALLEY = 0.6  # of the lower peak: what is left in a gap, at most
SEEN = 3.0  # standard deviations by which a gap must be deeper than chance
# A deep gap in one direction alone may be a fold of a curved set; where points are many it is none.
SURE = 6.0
APART = 1.75  # times the distance of nearest neighbors: what a chain of neighbors does not bridge
NEAREST = 5  # nearest sets that one is compared with
RIDGE = 0.05  # of the mean variance, for sets of fewer points than dimensions
SHOWN = 1500  # points of a set that distances are taken of
STEP = 0.5  # of the way from one set to the other, across a position that is a border's
BETWEEN = 0.2  # of that way, from either set: nearer to one than this a position is no bridge
# Standard deviations between two sets without what lies between them: 5 of slices of a uniform field, 6 and more of grains (half of them 9).
WIDE = 6.0
SMALLEST = 6  # points of a set that has a density


class Gap(NamedTuple):
    """What lies between two sets.

    Attributes:
        valley: Density in the gap over that of the lower peak; 1 where there is no gap.
        significance: Of that, in standard deviations.
        distance: Of the sets, in units of the distance of nearest neighbors inside them; NaN where depth and significance tell enough.
    """

    valley: float
    significance: float
    distance: float

    @property
    def deep(self) -> bool:
        """Whether it is one, in the direction that tells the sets apart best."""
        return self.valley < VALLEY and self.significance > SEEN

    @property
    def parts(self) -> bool:
        """Whether the sets are two."""
        return self.deep and (self.significance > SURE or self.distance > APART)


def join_without_gaps(
    points: np.ndarray,
    labels: np.ndarray,
    steps: np.ndarray | None = None,
    plain: dict[tuple, Gap] | None = None,
) -> np.ndarray:
    """Join sets, the most alike first, until there is a gap between any two that are near each other.

    Args:
        points: ``(n, d)``.
        labels: Set of every point, ``(n,)``, numbered from 0.
        steps: From `steps_across`, ``(directions, n, d)``: positions on borders are no bridges. None counts every point.
        plain: Gaps that every point counts for, by the labels of their sets; filled here, and not looked for again where it is given with the
            same points and labels.

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
    plain = {} if plain is None else plain
    members: list[tuple[int, ...]] = [(n,) for n in range(labels.max() + 1)]
    while labels.max() > 0:
        means = np.array([points[labels == n].mean(axis=0) for n in range(labels.max() + 1)])
        nearest = np.argsort(cdist(means, means), axis=1)[:, 1 : NEAREST + 1]
        pairs = {tuple(sorted((n, int(m)))) for n, row in enumerate(nearest) for m in row}
        worst = None
        for pair in sorted(pairs):
            key = tuple(members[n] for n in pair)
            if key not in known:
                sets = [np.flatnonzero(labels == n) for n in pair]
                if key not in plain:
                    plain[key] = gap_between(*(points[rows] for rows in sets))
                known[key] = _without_borders(plain[key], points, sets, steps)
            gap = known[key]
            if not gap.parts and (worst is None or _alike(gap) > _alike(worst[0])):
                worst = gap, pair
        if worst is None:
            break
        one, other = worst[1]
        labels[labels == other] = one
        labels = np.unique(labels, return_inverse=True)[1]
        members[one] = tuple(sorted(members[one] + members.pop(other)))
    return labels


def _without_borders(
    gap: Gap, points: np.ndarray, sets: list[np.ndarray], steps: np.ndarray | None
) -> Gap:
    """The gap between two sets of rows that all points leave; where they leave none, that without positions on borders."""
    if gap.parts or steps is None:
        return gap
    without = gap_between(*(points[rows] for rows in sets), *(steps[:, rows] for rows in sets))
    return without if without.parts else gap


def _alike(gap: Gap) -> tuple[float, float]:
    return gap.valley, -gap.significance


def gap_between(
    first: np.ndarray,
    second: np.ndarray,
    first_steps: np.ndarray | None = None,
    second_steps: np.ndarray | None = None,
) -> Gap:
    """The gap in the direction that tells two sets apart best, found with one half of the points and looked at with the other.

    Args:
        first: ``(n, d)``.
        second: ``(m, d)``.
        first_steps: Across the first, ``(directions, n, d)``; None counts every point.
        second_steps: The same of the second.

    Returns:
        Its depth, significance and width.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> one, other = rng.normal(0, 1, (200, 3)), rng.normal(0, 1, (200, 3))
        >>> gap_between(one, other + 9).parts, gap_between(one[one[:, 0] < 0], one[one[:, 0] > 0]).parts
        (True, False)
    """
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(part)) for part in (first, second)]
    sets = [_Set(*each) for each in zip((first, second), (first_steps, second_steps), strict=True)]
    sets = [part.at(order) for part, order in zip(sets, orders, strict=True)]
    if min(len(first), len(second)) < SMALLEST:
        return Gap(0.0, 0.0, 0.0)
    ends, left = [], []
    for half in (0, 1):
        one, other = (part.at(slice(half, None, 2)).points for part in sets)
        axis = discriminant(one, other)
        seen = [part.at(slice(1 - half, None, 2)) for part in sets]
        low, high = (float(np.median(part.points @ axis)) for part in seen)
        if high <= low:
            return Gap(1.0, 0.0, 0.0)
        seen = [part.at(~part.bridges(axis, low, high)) for part in seen]
        ends.append([(part.points @ axis - low) / (high - low) for part in seen])
        left.append([part.points for part in seen])
    one, other = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    if min(len(one), len(other)) < SMALLEST:  # nothing but border
        return Gap(1.0, 0.0, 0.0)
    if (
        first_steps is not None
        and np.mean([middle_two_thirds(part)[1] for part in (one, other)]) > 1 / WIDE
    ):
        return Gap(1.0, 0.0, 0.0)
    gap = Gap(*_valley(one, other), float("nan"))
    if not gap.deep or gap.significance > SURE:
        return gap
    near, far = (np.concatenate(parts)[:SHOWN] for parts in zip(*left, strict=True))
    return gap._replace(distance=_distance(near, far))


class _Set(NamedTuple):
    """Points, and the steps across them."""

    points: np.ndarray
    steps: np.ndarray | None

    def at(self, rows: Any) -> "_Set":
        return _Set(self.points[rows], None if self.steps is None else self.steps[:, rows])

    def bridges(self, axis: np.ndarray, low: float, high: float) -> np.ndarray:
        """Which points lie between two sets because they lie on their border."""
        if self.steps is None:
            return np.zeros(len(self.points), bool)
        step = np.abs(self.steps @ axis).max(axis=0) / (high - low)
        along = (self.points @ axis - low) / (high - low)
        return (step > STEP) & (along > BETWEEN) & (along < 1 - BETWEEN)


def discriminant(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Direction ``(d,)`` that tells two sets ``(n, d)`` and ``(m, d)`` apart best, for how both scatter.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> axis = discriminant(rng.normal(0, [1, 9], (500, 2)), rng.normal([5, 0], [1, 9], (500, 2)))
        >>> bool(axis[0] > 10 * abs(axis[1]))
        True
    """
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
    third = max(float(np.partition(across.min(axis=n), 2)[2]) for n in (0, 1))
    inside = [np.partition(cdist(part, part), 1, axis=1)[:, 1] for part in (first, second)]
    return third / max(max(float(np.quantile(part, 0.9)) for part in inside), 1e-30)
