"""Clusters as peaks of the density of points: as many, and of such shapes, as the points have."""

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors

# Neighbors that the density is taken from: one of a hundred points, for domains have a few percent of them; fewer than ten leave it to chance,
# and twenty are enough.
SHARE, FEWEST, MOST = 0.01, 10, 20
PROMINENCE = 3.0  # of a peak's logarithm over its saddle, in standard deviations of the density


def density_peaks(points: np.ndarray) -> np.ndarray:
    r"""Every point climbs to the denser of its neighbors; peaks that are not prominent join the one beyond their saddle.

    The density at a point is that of its k nearest neighbors, at a root mean square distance r in d dimensions,

    .. math:: \log f = -d \log r ,

    with a standard deviation of :math:`1 / \sqrt k`.

    Args:
        points: ``(n, d)``.

    Returns:
        Peak of every point, ``(n,)``, numbered from 0.

    Example:
        >>> points = np.random.default_rng(0).normal(0, 1, (300, 2))
        >>> points[:100] += 12
        >>> np.bincount(density_peaks(points)).tolist()
        [100, 200]

    Reference: F. Chazal et al., Persistence-based clustering in Riemannian manifolds, J. ACM 60, 41 (2013).
    """
    number = len(points)
    count = min(int(np.clip(SHARE * number, FEWEST, MOST)), number - 1)
    if count < 1:
        return np.zeros(number, int)
    prominent = PROMINENCE / np.sqrt(count)
    distance, near = NearestNeighbors(n_neighbors=count + 1).fit(points).kneighbors(points)
    reach = np.sqrt((distance[:, 1:] ** 2).mean(axis=1))
    density = -points.shape[1] * np.log(np.maximum(reach, 1e-12))
    links = sparse.csr_matrix(
        (np.ones(near[:, 1:].size), (np.repeat(np.arange(number), count), near[:, 1:].ravel())),
        (number, number),
    )
    links = (links + links.T).tocsr()
    order = np.argsort(-density, kind="stable")
    rank = np.argsort(order)
    above = np.arange(number)  # the way up; a peak is its own

    def peak(point: Any) -> Any:
        while above[point] != point:
            above[point] = above[above[point]]
            point = above[point]
        return point

    for point in order:
        around = links.indices[links.indptr[point] : links.indptr[point + 1]]
        denser = around[rank[around] < rank[point]]
        if not len(denser):
            continue
        above[point] = peak(denser[rank[denser].argmin()])
        for other in denser:
            one, two = sorted((peak(point), peak(other)), key=lambda top: rank[top])
            if one != two and density[two] - density[point] < prominent:
                above[two] = one
    tops = np.array([peak(point) for point in range(number)])
    return np.unique(tops, return_inverse=True)[1]
