"""The domains of a scan: divisive clustering of its scores, with the evidence for every division."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jax4dstem.domains.agreement import agreement
from jax4dstem.domains.splitters import Split, Splitter
from jax4dstem.domains.tree import divide, drop_outliers
from jax4dstem.errors import InputError
from jax4dstem.fields import SCAN, Result, Tree, entry, group
from jax4dstem.rows import known_positions, to_map, to_rows

LEVEL = "level_{}"


@dataclass(frozen=True)
class SplitEvidence(Result):
    """What was tried to split one set of positions.

    Attributes:
        k: Candidate numbers of clusters, ``(candidates,)``.
        criterion: Inertia or BIC at each, the same shape; empty for density clustering.
        criterion_name: Which of the two; "" for density clustering.
        silhouette: Mean silhouette at each, the same shape; NaN for one cluster.
        noise: Silhouette of split noise: mean, and the level to exceed; ``(2,)``.
        stability: Adjusted Rand index over seeds; NaN where nothing better than noise was found.
        n_clusters: Clusters made; 1 = not split.
    """

    k: np.ndarray = entry("candidate", "", "numbers of clusters tried")
    criterion: np.ndarray = entry("criterion_candidate", "", "{criterion_name} at each")
    criterion_name: str = entry("", "", "which criterion")
    silhouette: np.ndarray = entry("candidate", "", "mean silhouette at each")
    noise: np.ndarray = entry("mean_level", "", "silhouette of split noise: mean, level to exceed")
    stability: float = entry("", "", "adjusted Rand index over seeds")
    n_clusters: int = entry("", "", "clusters made; 1 = not split")

    @classmethod
    def of(cls, split: Split) -> "SplitEvidence":
        """The evidence of a split."""
        curves = split.curves
        noise = np.array(curves.noise)
        return cls(
            curves.k,
            curves.criterion,
            curves.criterion_name,
            curves.silhouette,
            noise,
            split.stability,
            split.n_clusters,
        )


@dataclass(frozen=True)
class Comparison(Result):
    """Level 1 found a second time by another method.

    Attributes:
        method: Of the second clustering.
        index: Adjusted Rand index of the two.
        share: Share of positions in matching clusters.
        labels: The second method's clusters in level 1's numbers, ``(scan_y, scan_x)``.
        disagreement: Positions in other clusters, boolean ``(scan_y, scan_x)``.
    """

    method: str = entry("", "", "the second method")
    index: float = entry("", "", "adjusted Rand index of the two")
    share: float = entry("", "1", "share of positions in matching clusters")
    labels: np.ndarray = entry(SCAN, "", "the second method's clusters in level 1's numbers")
    disagreement: np.ndarray = entry(SCAN, "", "positions in other clusters")


@dataclass(frozen=True)
class Domains(Result):
    """Clusters of a scan's positions, level by level, coarsest first.

    A cluster has the same id at all levels where it exists.

    Attributes:
        labels: Cluster of every position, ``(scan_y, scan_x)``, by name of the level; -1 for outliers.
        parent: Of every cluster, by id, the cluster it was split from; -1 for the whole scan; ``(clusters,)``.
        size: Of every cluster, by id, its positions; ``(clusters,)``.
        stability: By level, mean adjusted Rand index over seeds of the splits that lead to it; ``(levels,)``.
        splits: What was tried: "whole", and "cluster_<id>".
        comparison: With another method, where asked for.

    Example:
        >>> from jax4dstem.domains import KMeansSplitter
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 32, axis=0).reshape(8, 8, 2)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> domains = find_domains(points, [KMeansSplitter(k=2)])
        >>> domains.ids(1).tolist(), domains.size.tolist(), domains.parent.tolist()
        ([0, 1], [32, 32], [-1, -1])
    """

    labels: dict[str, np.ndarray] = entry(SCAN, "", "cluster id; -1 = outlier", "labels")
    parent: np.ndarray = entry(
        "cluster", "", "id of the parent; -1 = the whole scan", "tree/parent"
    )
    size: np.ndarray = entry("cluster", "positions", "positions in each cluster", "tree/size")
    stability: np.ndarray = entry(
        "level", "", "adjusted Rand index over seeds of the splits to a level", "tree/stability"
    )
    splits: dict[str, SplitEvidence] = group("splits")
    comparison: Comparison | None = group("comparison", default=None)

    @property
    def levels(self) -> list[np.ndarray]:
        """Labels of every level, coarsest first."""
        return [self.labels[LEVEL.format(n + 1)] for n in range(len(self.labels))]

    @classmethod
    def from_fields(cls, tree: Tree) -> "Domains":
        """The result whose fields these are; of the labels those of levels, which other answers lie beside."""
        found = super().from_fields(tree)
        levels = {k: v for k, v in found.labels.items() if k.startswith(LEVEL.format(""))}
        return replace(found, labels=levels)

    def compared(self, points: np.ndarray, other: Splitter, *, seed: int = 0) -> "Domains":
        """The same domains, with level 1 found a second time by another method, and where the two disagree.

        Args:
            points: As for `find_domains`.
            other: Splits the whole scan.
            seed: Of everything random.
        """
        valid = known_positions(points)
        first = to_rows(self.levels[0], valid)
        found = agreement(first, other.split(to_rows(points, valid), seed).labels)
        comparison = Comparison(
            type(other).__name__.removesuffix("Splitter"),
            found.index,
            found.share,
            to_map(found.matched, valid, -1),
            to_map(found.matched != first, valid, False),
        )
        return replace(self, comparison=comparison)

    def ids(self, level: int) -> np.ndarray:
        """Cluster ids at a level (1 = coarsest), without the outliers."""
        found = np.unique(self.levels[level - 1])
        return found[found >= 0]


def find_domains(
    points: np.ndarray,
    splitters: Sequence[Splitter],
    *,
    min_size: int = 20,
    outliers: float = 0.0,
    seed: int = 0,
) -> Domains:
    """Split the positions of a scan, then every cluster again, once per level.

    Args:
        points: Scores, embedding or codes, ``(scan_y, scan_x, d)``; NaN where a position is left out.
        splitters: One per level; they need not be of the same kind.
        min_size: A smaller cluster is not split further.
        outliers: Share of the positions that are set aside first, those least like their neighbors.
        seed: Of everything random.

    Returns:
        The clusters, and the evidence for every division.

    Example:
        >>> from jax4dstem.domains import KMeansSplitter
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 32, axis=0).reshape(8, 8, 2)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> rows = find_domains(points, [KMeansSplitter()]).levels[0][:, 0]
        >>> sorted([rows[:4].tolist(), rows[4:].tolist()])
        [[0, 0, 0, 0], [1, 1, 1, 1]]
    """
    valid = known_positions(points)
    rows = to_rows(points, valid)
    if not len(rows):
        raise InputError("no position has scores to find domains in")
    tree = divide(
        rows, splitters, min_size=min_size, outliers=drop_outliers(rows, outliers), seed=seed
    )
    labels = {
        LEVEL.format(n): to_map(level, valid, -1) for n, level in enumerate(tree.levels, start=1)
    }
    names = {
        parent: "whole" if parent < 0 else f"cluster_{parent}" for parent in sorted(tree.splits)
    }
    return Domains(
        labels,
        np.array([node.parent for node in tree.nodes], np.int32),
        np.array([node.size for node in tree.nodes], np.int32),
        np.array([tree.stability(n + 1) for n in range(len(tree.levels))]),
        {name: SplitEvidence.of(tree.splits[parent]) for parent, name in names.items()},
    )
