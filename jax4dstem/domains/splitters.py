"""Ways to split one set of points; each is a value with a `split` method, on top of scikit-learn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import sklearn.cluster
import sklearn.mixture
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from jax4dstem.domains.selection import elbow, gaussian_reference, silhouette
from jax4dstem.embed import subsample

MAX_FIT = 20_000  # points a model is fitted to; the others are assigned to its clusters
NOISE_DRAWS = 5  # splits of noise, of which the best counts
NOISE_MARGIN = 0.02  # what a real split must gain in silhouette over the best split of noise
STABILITY_DRAWS = 3  # splits with other seeds
SUBSAMPLE = 0.8  # of the points, that density clustering is repeated on
CLEAR = 0.6  # distance to the nearest cluster over that to the second, of an outlier that clearly belongs
MIN_STABILITY = 0.5  # adjusted Rand index; a split that other seeds do not find again is not made


@dataclass(frozen=True)
class Curves:
    """What was tried to split one set of points.

    Attributes:
        k: Candidate numbers of clusters ``(m,)``.
        criterion: Inertia (K-means) or BIC (mixture) at each candidate ``(m,)``; empty for HDBSCAN.
        silhouette: Mean silhouette at each candidate ``(m,)``; NaN for K = 1.
        noise: Mean silhouette that the same split reaches on points without clusters, and the level
            that a split must exceed to be kept.
        criterion_name: "inertia", "BIC" or "".
    """

    k: np.ndarray
    criterion: np.ndarray
    silhouette: np.ndarray
    noise: tuple[float, float]
    criterion_name: str


@dataclass(frozen=True)
class Split:
    """One set of points, split or not.

    Attributes:
        labels: ``(n,)`` int32, 0 to K - 1, -1 for outliers; all 0 when the set was not split.
        curves: What was tried.
        stability: Mean adjusted Rand index between this split and splits with other seeds, on
            bootstrap samples; NaN when nothing better than noise was found.
    """

    labels: np.ndarray
    curves: Curves
    stability: float

    @property
    def n_clusters(self) -> int:
        """Number of clusters that were made."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0


@runtime_checkable
class Splitter(Protocol):
    """Splits a set of points into clusters, or leaves it whole when that is no better than noise."""

    def split(self, scores: np.ndarray, seed: int) -> Split:
        """Split ``(n, d)`` points."""
        ...


@dataclass(frozen=True)
class KMeansSplitter:
    """K-means++ with restarts; K is the smaller of the elbow and the best silhouette.

    Where the two disagree the coarser answer is taken: a later level can still split further.

    Attributes:
        k: A fixed number of clusters, or None to choose it.
        k_max: Largest candidate.
        restarts: K-means++ starts; the one with the lowest inertia counts.

    Example:
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 20, axis=0)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> KMeansSplitter(k=2).split(points, seed=0).n_clusters
        2
    """

    k: int | None = None
    k_max: int = 6
    restarts: int = 10

    def split(self, scores: np.ndarray, seed: int) -> Split:
        """Split ``(n, d)`` points; see `Split`."""
        return _split_by_k(self, scores, seed)

    def candidates(self, n: int) -> np.ndarray:
        """Numbers of clusters to try."""
        return _candidates(self.k, self.k_max, n)

    def fit(self, scores: np.ndarray, k: int, seed: int) -> Any:
        """A fitted scikit-learn model."""
        return sklearn.cluster.KMeans(k, n_init=self.restarts, random_state=seed).fit(scores)

    def criterion(self, model: Any, scores: np.ndarray) -> float:
        """Sum of squared distances to the cluster centers."""
        return float(model.inertia_)

    def choose(self, criterion: np.ndarray, silhouettes: np.ndarray) -> int:
        """Index of the chosen candidate."""
        return min(max(1, elbow(criterion)), int(np.nanargmax(silhouettes)))

    criterion_name = "inertia"


@dataclass(frozen=True)
class GaussianMixtureSplitter:
    """Gaussian mixture with full covariances; K is the smaller of the best BIC and silhouette.

    Attributes:
        k: A fixed number of components, or None to choose it.
        k_max: Largest candidate.
        starts: Initializations; the one with the highest likelihood counts.

    Example:
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 20, axis=0)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> GaussianMixtureSplitter(k=2).split(points, seed=0).n_clusters
        2
    """

    k: int | None = None
    k_max: int = 6
    starts: int = 3

    def split(self, scores: np.ndarray, seed: int) -> Split:
        """Split ``(n, d)`` points; see `Split`."""
        return _split_by_k(self, scores, seed)

    def candidates(self, n: int) -> np.ndarray:
        """Numbers of components to try."""
        return _candidates(self.k, self.k_max, n)

    def fit(self, scores: np.ndarray, k: int, seed: int) -> Any:
        """A fitted scikit-learn model."""
        spread = 1e-6 * float(scores.var(axis=0).mean()) + 1e-12
        return sklearn.mixture.GaussianMixture(
            k, n_init=self.starts, random_state=seed, reg_covar=spread, max_iter=500, tol=1e-2
        ).fit(scores)

    def criterion(self, model: Any, scores: np.ndarray) -> float:
        """Bayesian information criterion, per fitted model."""
        return float(model.bic(scores))

    def choose(self, criterion: np.ndarray, silhouettes: np.ndarray) -> int:
        """Index of the chosen candidate."""
        return min(max(1, int(np.argmin(criterion))), int(np.nanargmax(silhouettes)))

    criterion_name = "BIC"


@dataclass(frozen=True)
class HDBSCANSplitter:
    """Density clustering: clusters of any shape, chains included; points between clusters are outliers.

    Attributes:
        k: The number of clusters wanted, or None for what the density says. The smallest cluster is raised while there
            are too many, or lowered while there are too few; where the number jumps over k, the far side is taken.
        min_cluster_size: Smallest cluster; None takes 1 % of the points, at least 5.
        min_samples: Neighbors that a point's density is taken from; None takes ``min_cluster_size``. A few
            follow thin chains, many want compact clusters.
        join_outliers: "all" gives every outlier to its nearest cluster, "clear" only those much nearer to one cluster than
            to any other, so that what stays lies between clusters, "none" leaves them.

    Example:
        >>> points = np.repeat([[0.0, 0.0], [9.0, 0.0]], 20, axis=0)
        >>> points += np.random.default_rng(0).normal(0, 0.2, points.shape)
        >>> HDBSCANSplitter(min_cluster_size=5).split(points, seed=0).n_clusters
        2
    """

    k: int | None = None
    min_cluster_size: int | None = None
    min_samples: int | None = None
    join_outliers: Literal["none", "clear", "all"] = "none"

    def split(self, scores: np.ndarray, seed: int) -> Split:
        """Split ``(n, d)`` points; see `Split`."""
        labels = self._labels(scores, seed)
        observed = silhouette(scores, labels, seed)
        noise = _noise_level(self._labels, scores, seed)

        def on_subsample(points: np.ndarray, draw: int) -> np.ndarray:
            rows = np.random.default_rng(draw).random(len(points)) < SUBSAMPLE
            nearest = KNeighborsClassifier(1).fit(points[rows], self._labels(points[rows], draw))
            return nearest.predict(points)

        k = np.array([labels.max() + 1])
        curves = Curves(k, np.zeros(0), np.array([observed]), noise, "")
        given = self.k is not None and labels.max() > 0
        if not given and observed <= noise[1]:
            return Split(np.zeros(len(scores), np.int32), curves, np.nan)
        split = Split(labels, curves, _stability(on_subsample, scores, labels, seed))
        return split if given else _keep_if_stable(split)

    def _labels(self, scores: np.ndarray, seed: int) -> np.ndarray:
        chosen = subsample(len(scores), MAX_FIT, seed)
        smallest = self.min_cluster_size or max(5, len(chosen) // 100)
        if len(chosen) <= smallest:
            return np.zeros(len(scores), np.int32)
        fitted = self._fit(scores[chosen], smallest)
        if self.k is not None:
            fitted = self._with_k(scores[chosen], smallest, fitted)
        fitted = self._joined(scores[chosen], fitted)
        if len(chosen) == len(scores):
            return fitted.astype(np.int32)
        nearest = KNeighborsClassifier(1).fit(scores[chosen], fitted)
        return nearest.predict(scores).astype(np.int32)

    def _joined(self, points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Outliers given to clusters as ``join_outliers`` says."""
        clusters, lost = np.unique(labels[labels >= 0]), np.flatnonzero(labels < 0)
        if self.join_outliers == "none" or len(clusters) < 2 or not len(lost):
            return labels
        distance = np.stack([_distance_to(points[labels == c], points[lost]) for c in clusters], 1)
        first, second = np.sort(distance, axis=1)[:, :2].T
        joins = np.full(len(lost), True) if self.join_outliers == "all" else first < CLEAR * second
        joined = labels.copy()
        joined[lost[joins]] = clusters[distance.argmin(axis=1)][joins]
        return joined

    def _with_k(self, points: np.ndarray, smallest: int, fitted: np.ndarray) -> np.ndarray:
        """Raise the smallest cluster while there are too many, or lower it while there are too few."""
        wanted = self.k or 1
        surplus = fitted.max() + 1 > wanted
        step = 1.1 if surplus else 1 / 1.1
        while (fitted.max() + 1 > wanted) == surplus and fitted.max() + 1 != wanted:
            smallest = int(np.ceil(smallest * step)) if surplus else int(smallest * step)
            if not 2 < smallest < len(points) / 2:
                break
            fitted = self._fit(points, smallest)
        return fitted

    def _fit(self, points: np.ndarray, smallest: int) -> np.ndarray:
        model = sklearn.cluster.HDBSCAN(smallest, min_samples=self.min_samples, copy=True)
        return model.fit_predict(points)


CLUSTERERS: dict[str, type[Splitter]] = {
    "kmeans": KMeansSplitter,
    "gmm": GaussianMixtureSplitter,
    "hdbscan": HDBSCANSplitter,
}


def _distance_to(members: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Mean distance of points to their five nearest members of a cluster."""
    neighbors = NearestNeighbors(n_neighbors=min(5, len(members))).fit(members)
    return neighbors.kneighbors(points)[0].mean(axis=1)


def _candidates(k: int | None, k_max: int, n: int) -> np.ndarray:
    """1 (for the curves) and every K to try; fewer than n clusters, so that each can have two."""
    if k is not None:
        return np.unique([1, max(1, min(k, n - 1))])
    return np.arange(1, max(1, min(k_max, n - 1)) + 1)


def _split_by_k(splitter: Any, scores: np.ndarray, seed: int) -> Split:
    """Fit every candidate, choose one, and keep it if it is better than noise and stable."""
    k = splitter.candidates(len(scores))
    whole = np.zeros(len(scores), np.int32)
    if len(k) < 2 or not np.ptp(scores, axis=0).any():
        nothing = np.full(1, np.nan)
        curves = Curves(k[:1], nothing, nothing, (np.nan, np.nan), splitter.criterion_name)
        return Split(whole, curves, np.nan)
    chosen = subsample(len(scores), MAX_FIT, seed)
    models = [splitter.fit(scores[chosen], int(n), seed) for n in k]
    labelings = [_ordered(model.predict(scores)) for model in models]
    criterion = np.array([splitter.criterion(model, scores[chosen]) for model in models])
    silhouettes = np.array([np.nan, *(silhouette(scores, x, seed) for x in labelings[1:])])
    best = 1 if splitter.k is not None else splitter.choose(criterion, silhouettes)

    def again(points: np.ndarray, draw: int) -> np.ndarray:
        return splitter.fit(points, int(k[best]), draw).predict(points)

    def on_bootstrap(points: np.ndarray, draw: int) -> np.ndarray:
        rows = np.random.default_rng(draw).integers(0, len(points), len(points))
        return splitter.fit(points[rows], int(k[best]), draw).predict(points)

    noise = _noise_level(again, scores, seed)
    curves = Curves(k, criterion, silhouettes, noise, splitter.criterion_name)
    given = splitter.k is not None  # a number the user has set is not second-guessed
    if not given and silhouettes[best] <= noise[1]:
        return Split(whole, curves, np.nan)
    labels = labelings[best]
    split = Split(labels, curves, _stability(on_bootstrap, scores[chosen], labels[chosen], seed))
    return split if given else _keep_if_stable(split)


def _keep_if_stable(split: Split) -> Split:
    if split.stability >= MIN_STABILITY:
        return split
    return replace(split, labels=np.zeros_like(split.labels))


def _ordered(labels: np.ndarray) -> np.ndarray:
    """Number the clusters by size, largest first, so that seeds do not permute them."""
    sizes = np.bincount(labels)
    rank = np.empty(len(sizes), np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    return rank[labels]


def _noise_level(
    label: Callable[[np.ndarray, int], np.ndarray], scores: np.ndarray, seed: int
) -> tuple[float, float]:
    """Mean silhouette of splits of noise, and the level a real split must exceed."""
    found = []
    for draw in range(seed, seed + NOISE_DRAWS):
        points = gaussian_reference(scores, draw)
        found.append(silhouette(points, label(points, draw), draw))
    return float(np.mean(found)), float(np.max(found) + NOISE_MARGIN)


def _stability(
    label: Callable[[np.ndarray, int], np.ndarray],
    scores: np.ndarray,
    labels: np.ndarray,
    seed: int,
) -> float:
    draws = range(seed + 1, seed + 1 + STABILITY_DRAWS)
    return float(np.mean([adjusted_rand_score(labels, label(scores, draw)) for draw in draws]))
