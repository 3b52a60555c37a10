"""Sets of points that chains of near neighbors hold together.

Patterns of one crystal over a range of tilts, or of thickness, lie along a curve. How dense they are on it is chance: peaks of the density are pieces
of a curve, which may lie farther apart than two neighbors do. A tree of nearest neighbors keeps curves whole; small branches of it are
taken for their ends.
"""

import numpy as np
from sklearn.cluster import HDBSCAN
from sklearn.neighbors import NearestNeighbors

# Of the points, that a set has at least. Ends of curves of 100 patterns, of 300 in all, were up to 25 large; sets of the first size also keep what is rarer.
SHARES = (0.05, 0.15)
FEWEST = 10  # points of a set, as many as densities are taken from
LINKED = 2  # points, itself counted, by which a point is dense: chains hang together by nearest neighbors


def smallest_set(points: int, share: float) -> int:
    """Points that a set has at least, of so many, by its share."""
    return max(FEWEST, int(share * points))


def linked_sets(points: np.ndarray, smallest: int) -> np.ndarray:
    """Sets that chains of neighbors hold together; a point of none has that of the nearest one.

    Args:
        points: ``(n, d)``.
        smallest: Points that a set has at least.

    Returns:
        Set of every point, ``(n,)``, numbered from 0.

    Example:
        >>> angle = np.random.default_rng(0).uniform(0, 2, 300)
        >>> arcs = np.stack([np.cos(angle), np.sin(angle), 0.5 * (np.arange(300) < 100)], axis=1)
        >>> np.bincount(linked_sets(arcs, 30)).tolist()
        [100, 200]

    Reference: R. Campello, D. Moulavi, J. Sander, Density-based clustering based on hierarchical density estimates (PAKDD 2013).
    """
    if len(points) < 2 * smallest:
        return np.zeros(len(points), int)
    sets = HDBSCAN(smallest, min_samples=LINKED, copy=True).fit_predict(points)
    among = sets >= 0
    if not among.any():
        return np.zeros(len(points), int)
    return sets[among][nearest_of(points[among], points)]


def nearest_of(some: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of some points ``(m, d)`` is nearest to each point ``(n, d)``, ``(n,)``."""
    return NearestNeighbors(n_neighbors=1).fit(some).kneighbors(points)[1][:, 0]
