"""Divisive clustering: every cluster is split again, until a split is no better than noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import LocalOutlierFactor
from threadpoolctl import threadpool_limits

from jax4dstem.domains.splitters import Split, Splitter


@dataclass(frozen=True)
class Node:
    """One cluster: its id, the cluster it was split from (-1: all positions) and its level."""

    id: int
    parent: int
    level: int
    size: int


@dataclass(frozen=True)
class ClusterTree:
    """Labels at every level of a divisive clustering.

    A cluster's id is the same at all levels where it exists: a leaf keeps its label at deeper levels.

    Attributes:
        levels: Labels ``(n,)`` int32 per level, coarsest first; -1 = outlier.
        nodes: All clusters, in the order of their ids.
        splits: What was tried for each cluster that was looked at, by id; -1 for the whole.

    Example:
        >>> from jax4dstem.domains import KMeansSplitter
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 20, axis=0)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> tree = divide(points, [KMeansSplitter(k=2)])
        >>> tree.ids(1).tolist(), tree.stability(1)
        ([0, 1], 1.0)
    """

    levels: tuple[np.ndarray, ...]
    nodes: tuple[Node, ...]
    splits: dict[int, Split]

    def ids(self, level: int) -> np.ndarray:
        """Cluster ids at a level (1 = coarsest), without the outliers."""
        found = np.unique(self.levels[level - 1])
        return found[found >= 0]

    def stability(self, level: int) -> float:
        """Size-weighted mean stability (adjusted Rand index) of the splits that lead to a level."""
        made = [(-1, len(self.levels[0]))] + [
            (node.id, node.size) for node in self.nodes if node.level < level
        ]
        used = [
            (self.splits[i], n)
            for i, n in made
            if i in self.splits and self.splits[i].n_clusters > 1
        ]
        if not used:
            return float("nan")
        values, sizes = zip(*((split.stability, n) for split, n in used), strict=True)
        return float(np.average(values, weights=sizes))


def divide(
    scores: np.ndarray,
    splitters: Sequence[Splitter],
    *,
    min_size: int = 20,
    outliers: np.ndarray | None = None,
    seed: int = 0,
) -> ClusterTree:
    """Split all points, then every cluster again, once per level.

    Args:
        scores: ``(n, d)`` PCA scores, embedding or codes.
        splitters: One per level; they need not be of the same kind.
        min_size: A smaller cluster is not split further.
        outliers: Boolean ``(n,)``, points that stay outliers at every level.
        seed: Seed of everything random.

    Returns:
        The tree; levels that would split nothing are left out (there is always one).

    Example:
        >>> import numpy as np
        >>> from jax4dstem.domains import KMeansSplitter, divide
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0], [9.0, 5.0]], 50, axis=0)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> [len(np.unique(labels)) for labels in divide(points, [KMeansSplitter(k=2), KMeansSplitter()]).levels]
        [2, 3]
    """
    labels = np.full(len(scores), -1, np.int32)
    keep = np.ones(len(scores), bool) if outliers is None else ~outliers
    splits: dict[int, Split] = {}
    nodes: list[Node] = []
    levels: list[np.ndarray] = []
    pending = {-1: np.flatnonzero(keep)}  # clusters that may be split at the next level
    for level, splitter in enumerate(splitters, start=1):
        children: dict[int, np.ndarray] = {}
        for parent, members in pending.items():
            if parent >= 0 and len(members) < min_size:
                continue
            with threadpool_limits(
                1
            ):  # idle OpenMP threads spin: many small fits get slower by far
                split = splits[parent] = splitter.split(scores[members], seed)
            if parent >= 0 and split.n_clusters < 2:
                continue
            labels[members[split.labels < 0]] = -1
            for k in range(split.n_clusters):
                rows = members[split.labels == k]
                node = Node(len(nodes), parent, level, len(rows))
                nodes.append(node)
                labels[rows] = node.id
                children[node.id] = rows
        if level > 1 and not children:
            break
        levels.append(labels.copy())
        pending = children
    return ClusterTree(tuple(levels), tuple(nodes), splits)


def drop_outliers(scores: np.ndarray, fraction: float) -> np.ndarray:
    """Mark the ``fraction`` of points that are least like their neighbors.

    Args:
        scores: ``(n, d)``.
        fraction: Share of the points, in (0, 0.5]; 0 marks none.

    Returns:
        Boolean ``(n,)``.

    Example:
        >>> points = np.concatenate([np.random.default_rng(0).normal(0, 0.2, (30, 2)), [[9.0, 9.0]]])
        >>> np.flatnonzero(drop_outliers(points, 0.03)).tolist()
        [30]

    Reference: local outlier factor, Breunig et al., SIGMOD Rec. 29, 93 (2000).
    """
    if fraction == 0 or len(scores) < 3:
        return np.zeros(len(scores), bool)
    neighbors = min(20, len(scores) - 1)
    return LocalOutlierFactor(neighbors, contamination=fraction).fit_predict(scores) < 0
