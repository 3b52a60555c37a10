"""How well two labelings of the same positions agree, whatever their numbers are."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score


class Agreement(NamedTuple):
    """Two labelings compared.

    Attributes:
        index: Adjusted Rand index over the positions that neither calls an outlier; 1 is equal, 0 is chance.
        matched: The second labeling in the numbers of the first, ``(n,)``; a cluster without a partner and outliers: -1.
        share: Share of all positions on which they agree after matching; outliers agree with nothing.
    """

    index: float
    matched: np.ndarray
    share: float


def agreement(labels: np.ndarray, others: np.ndarray) -> Agreement:
    """Match the clusters of two labelings one to one so that most positions agree.

    With the true classes as ``labels`` the share is the clustering accuracy of the field: outliers and surplus clusters
    count as wrong.

    Args:
        labels: ``(n,)`` integers; negative ones are outliers.
        others: ``(n,)``.

    Returns:
        Index, the second labeling in the first one's numbers, and the share that agrees.

    Example:
        >>> found = agreement(np.array([0, 0, 1, 1, 2]), np.array([5, 5, 3, 3, -1]))
        >>> found.index, found.matched.tolist(), found.share
        (1.0, [0, 0, 1, 1, -1], 0.8)

    Reference: Hubert and Arabie, J. Classification 2, 193 (1985); Kuhn, Nav. Res. Logist. Q. 2, 83 (1955).
    """
    labels, others = np.asarray(labels).ravel(), np.asarray(others).ravel()
    both = (labels >= 0) & (others >= 0)
    rows, columns = np.unique(labels[labels >= 0]), np.unique(others[others >= 0])
    overlap = np.array([[np.sum((labels == i) & (others == j)) for j in columns] for i in rows])
    matched = np.full(len(labels), -1, np.int32)
    if overlap.size:
        for i, j in zip(*linear_sum_assignment(-overlap), strict=True):
            matched[others == columns[j]] = rows[i]
    equal = (matched == labels) & (labels >= 0)
    return Agreement(
        float(adjusted_rand_score(labels[both], others[both])) if both.any() else 0.0,
        matched,
        float(np.mean(equal)),
    )


def merge_by_majority(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give every cluster the truth label that most of its positions have.

    Args:
        labels: Integers of any shape.
        truth: The same shape.

    Returns:
        Truth labels, one per cluster.

    Example:
        >>> merge_by_majority(np.array([0, 0, 1, 2]), np.array([5, 5, 7, 7])).tolist()
        [5, 5, 7, 7]
    """
    merged = np.full_like(truth, -1, dtype=np.int64)
    for cluster in np.unique(labels):
        members = labels == cluster
        values, counts = np.unique(truth[members], return_counts=True)
        merged[members] = values[counts.argmax()]
    return merged


def domain_agreement(labels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Adjusted Rand index of the clusters, and of the clusters merged by majority truth label.

    Args:
        labels: Integers of any shape.
        truth: The same shape.

    Returns:
        Both indices; 1 is agreement, 0 what chance gives.

    Example:
        >>> domain_agreement(np.array([0, 0, 1, 1]), np.array([3, 3, 4, 4]))
        (1.0, 1.0)
    """
    labels, truth = labels.ravel(), truth.ravel()
    merged = merge_by_majority(labels, truth)
    return adjusted_rand_score(truth, labels), adjusted_rand_score(truth, merged)
