"""How many clusters: elbow, silhouette, and whether a split is better than noise."""

import numpy as np
from sklearn.metrics import silhouette_score

from jax4dstem.embed import subsample

SILHOUETTE_SAMPLE = 3000  # the silhouette costs n² distances


def elbow(inertia: np.ndarray) -> int:
    """Index of the elbow of a falling curve: the point farthest below its chord.

    Example:
        >>> import numpy as np
        >>> elbow(np.array([10.0, 2.0, 1.5, 1.2, 1.0]))
        1
    """
    x = np.linspace(0, 1, len(inertia))
    drop = max(inertia[0] - inertia[-1], np.finfo(float).tiny)
    return int(np.argmax(1 - x - (inertia - inertia[-1]) / drop))


def silhouette(scores: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Mean silhouette over a seeded subsample; -1 when there is only one cluster in it.

    Outliers (label -1) are left out.

    Reference: Rousseeuw, J. Comput. Appl. Math. 20, 53 (1987).
    """
    scores, labels = scores[labels >= 0], labels[labels >= 0]
    chosen = subsample(len(scores), SILHOUETTE_SAMPLE, seed)
    n_labels = len(np.unique(labels[chosen]))
    if not 1 < n_labels < len(chosen):
        return -1.0
    return float(silhouette_score(scores[chosen], labels[chosen]))


def gaussian_reference(scores: np.ndarray, seed: int) -> np.ndarray:
    """Points without clusters: normal with the mean and covariance of ``scores``.

    PCA scores are sums over many pixels, so shot noise alone makes them normal; a split of such
    points is what a split of noise looks like.
    """
    some = scores[subsample(len(scores), SILHOUETTE_SAMPLE, seed)]
    mean = some.mean(axis=0)
    # A square root of the covariance from the points themselves: exact also when n < d.
    mix = np.random.default_rng(seed).standard_normal((len(some), len(some)))
    return mean + mix @ (some - mean) / np.sqrt(len(some))
