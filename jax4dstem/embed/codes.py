"""What codes mean: decoded centroids, traversals, interpolation, and how large a code should be."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score

from jax4dstem.errors import InputError


def decoded_centroids(model: Any, codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The sample that the mean code of every cluster decodes to.

    Args:
        model: A fitted estimator with ``inverse_transform``.
        codes: ``(n, latent)``.
        labels: ``(n,)``; negative ones are left out.

    Returns:
        ``(clusters, features)``, by growing label.

    Example:
        >>> model, codes = PCA(2).fit(np.random.default_rng(0).random((9, 5))), np.zeros((9, 2))
        >>> decoded_centroids(model, codes, np.arange(9) % 3).shape
        (3, 5)
    """
    found = np.unique(labels[labels >= 0])
    return model.inverse_transform(np.stack([codes[labels == i].mean(axis=0) for i in found]))


def traverse(model: Any, code: np.ndarray, axis: int, values: Sequence[float]) -> np.ndarray:
    """Decoded samples as one number of a code takes the given values.

    Args:
        model: A fitted estimator with ``inverse_transform``.
        code: Where the others stay, ``(latent,)``.
        axis: The number that changes.
        values: What it takes.

    Returns:
        ``(len(values), features)``.

    Example:
        >>> model = PCA(2).fit(np.random.default_rng(0).random((9, 5)))
        >>> traverse(model, np.zeros(2), 1, [-1.0, 0.0, 1.0]).shape
        (3, 5)
    """
    path = np.tile(np.asarray(code, np.float64), (len(values), 1))
    path[:, axis] = values
    return model.inverse_transform(path)


def interpolate(model: Any, start: np.ndarray, end: np.ndarray, steps: int = 8) -> np.ndarray:
    """Decoded samples on the straight line between two codes, ends included.

    Args:
        model: A fitted estimator with ``inverse_transform``.
        start: Code ``(latent,)``.
        end: Code ``(latent,)``.
        steps: Number of samples.

    Returns:
        ``(steps, features)``.

    Example:
        >>> model = PCA(2).fit(np.random.default_rng(0).random((9, 5)))
        >>> interpolate(model, np.zeros(2), np.ones(2), 4).shape
        (4, 5)
    """
    share = np.linspace(0, 1, steps)[:, None]
    return model.inverse_transform((1 - share) * start + share * end)


class BottleneckSweep(NamedTuple):
    """Figures by size of the code, of held-out samples; the first of each pair is the model's, then PCA's.

    Attributes:
        sizes: Sizes of the code, ``(s,)``.
        error: Mean squared reconstruction errors, ``(s, 2)``.
        silhouette: Of clusters of the codes, ``(s, 2)``.
        explained: Share of the variance that a principal component explains, the scree plot, ``(s,)``.
    """

    sizes: np.ndarray
    error: np.ndarray
    silhouette: np.ndarray
    explained: np.ndarray


def bottleneck_sweep(
    model: Any,
    X: np.ndarray,
    sizes: Sequence[int],
    cluster: Callable[[np.ndarray], np.ndarray],
    held_out: float = 0.25,
) -> BottleneckSweep:
    """Compare an estimator with PCA on the same split, for codes of several sizes.

    Args:
        model: An unfitted estimator with the parameter ``latent``.
        X: ``(n, features)``; the last ones are held out.
        sizes: Sizes of the code.
        cluster: Labels of held-out codes, such as ``KMeans(4).fit_predict``.
        held_out: Share that is held out.

    Returns:
        Errors, silhouettes, and the scree plot that tells where to stop.

    Raises:
        InputError: A size exceeds the features, or too few samples are held out.

    Example:
        >>> from sklearn.cluster import KMeans
        >>> from jax4dstem.embed import AutoEncoderEstimator
        >>> X = np.random.default_rng(0).standard_normal((80, 5))
        >>> model = AutoEncoderEstimator(hidden=(), activation="linear", epochs=5, batch_size=60)
        >>> bottleneck_sweep(model, X, [1, 2], KMeans(2, n_init=1).fit_predict).error.shape
        (2, 2)
    """
    kept = len(X) - round(held_out * len(X))
    train, test = X[:kept], X[kept:]
    if max(sizes) > min(X.shape[1], kept) or len(test) < 3:
        raise InputError(
            f"codes of up to {max(sizes)} numbers need as many features and samples, and 3 held-out ones; "
            f"got {X.shape} with {len(test)} held out"
        )
    error, silhouette = [], []
    for size in sizes:
        pair = (clone(model).set_params(latent=size).fit(train), PCA(size).fit(train))
        codes = [each.transform(test) for each in pair]
        error.append(
            [
                np.mean((e.inverse_transform(c) - test) ** 2)
                for e, c in zip(pair, codes, strict=True)
            ]
        )
        silhouette.append([silhouette_score(c, cluster(c)) for c in codes])
    scree = PCA(max(sizes)).fit(train).explained_variance_ratio_
    return BottleneckSweep(
        np.array(sizes), np.array(error), np.array(silhouette), scree[np.array(sizes) - 1]
    )
