"""Embeddings: PCA from a streamed covariance, and UMAP of its scores."""

import warnings
from typing import NamedTuple

import numpy as np
from scipy import linalg
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsRegressor

from jax4dstem.errors import InputError
from jax4dstem.reducers import CovarianceResult
from jax4dstem.typing import Array, Float


class PrincipalComponents(NamedTuple):
    """Principal components of feature vectors.

    Attributes:
        mean: ``(p,)``.
        components: Unit vectors as rows, ``(d, p)``.
        explained_variance: Of the scores, ``(d,)``.
        explained_variance_ratio: Its share of the total variance, ``(d,)``.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    explained_variance_ratio: np.ndarray


def fit_pca(statistics: CovarianceResult, n_components: int) -> PrincipalComponents:
    """Principal components from a covariance, which `reduce_patterns` gathers in one pass.

    The sign of each component is fixed so that its largest entry is positive.

    Args:
        statistics: Mean ``(p,)`` and covariance ``(p, p)``.
        n_components: Number of components; at most p and the number of patterns are kept.

    Returns:
        Mean ``(p,)``, components ``(d, p)``, variances ``(d,)`` and their share of the total.

    Raises:
        InputError: The covariance is not finite.

    Example:
        >>> import numpy as np
        >>> from jax4dstem.reducers import CovarianceResult
        >>> fit_pca(CovarianceResult(np.zeros(2), np.diag([1.0, 3.0]), 10), 1).components.round(6)
        array([[0., 1.]])
    """
    covariance = np.asarray(statistics.covariance)
    if not np.isfinite(covariance).all():
        raise InputError("the feature covariance is not finite: some pattern has invalid features")
    size = len(covariance)
    keep = max(1, min(n_components, size, int(statistics.weight)))
    values, vectors = linalg.eigh(covariance, subset_by_index=[size - keep, size - 1])
    components = vectors.T[::-1]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(keep), largest])[:, None]
    variance = np.maximum(values[::-1], 0)
    total = max(float(np.trace(covariance)), np.finfo(float).tiny)
    return PrincipalComponents(np.asarray(statistics.mean), components, variance, variance / total)


def project(
    features: Float[Array, " p"], mean: Float[Array, " p"], components: Float[Array, "d p"]
) -> Float[Array, " d"]:
    """PCA scores of one feature vector.

    Args:
        features: ``(p,)``.
        mean: Subtracted from it, ``(p,)``.
        components: As rows, ``(d, p)``.

    Returns:
        Scores ``(d,)``.

    Example:
        >>> import jax.numpy as jnp
        >>> project(jnp.arange(4.0), jnp.ones(4), jnp.eye(4)[:2]).tolist()
        [-1.0, 0.0]
    """
    return components @ (features - mean)


def embed_umap(
    scores: np.ndarray,
    *,
    n_components: int = 3,
    n_neighbors: int = 15,
    min_dist: float = 0.0,
    densmap: bool = False,
    max_fit: int = 10_000,
    seed: int = 0,
) -> np.ndarray:
    """UMAP of PCA scores; a large scan is fitted on a seeded subsample and the rest interpolated.

    A position outside the subsample gets the distance-weighted mean of the embedding of its nearest
    neighbors in the subsample.

    Args:
        scores: ``(n, d)``.
        n_components: Dimension of the embedding.
        n_neighbors: Size of the neighborhood; smaller scans use n - 1.
        min_dist: Smallest distance in the embedding; 0 packs clusters.
        densmap: Keep the density of the points as well: loose clusters stay loose.
        max_fit: Largest number of points that UMAP itself sees.
        seed: Seed of subsample and embedding; the same seed gives the same result.

    Returns:
        ``(n, n_components)`` float32.

    Raises:
        InputError: Fewer positions than UMAP can embed.

    Example:
        >>> embed_umap(np.zeros((4, 10)))
        Traceback (most recent call last):
            ...
        jax4dstem.errors.InputError: UMAP to 3 dimensions needs at least 8 positions, got 4

    Reference: McInnes, Healy and Melville, arXiv:1802.03426 (2018); densmap: Narayan, Berger and Cho, Nat.
    Biotechnol. 39, 765 (2021).
    """
    if len(scores) < 2 * (n_components + 1):
        raise InputError(
            f"UMAP to {n_components} dimensions needs at least {2 * (n_components + 1)} positions, "
            f"got {len(scores)}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of packages that we do not need
        import umap  # takes seconds to import and compiles for a minute at its first fit
    chosen = subsample(len(scores), max_fit, seed)
    model = umap.UMAP(
        n_components=n_components,
        n_neighbors=min(n_neighbors, len(chosen) - 1),
        min_dist=min_dist,
        densmap=densmap,
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numba and spectral-initialization chatter
        fitted = np.asarray(model.fit_transform(scores[chosen]), np.float32)
    if len(chosen) == len(scores):
        return fitted
    nearest = KNeighborsRegressor(n_neighbors=5, weights="distance").fit(scores[chosen], fitted)
    return nearest.predict(scores).astype(np.float32)


def embed_tsne(codes: np.ndarray, *, perplexity: float = 30.0, seed: int = 0) -> np.ndarray:
    """t-SNE of codes in two dimensions: a picture; distances between its groups mean nothing.

    Args:
        codes: ``(n, d)``; n log n work, so subsample what is large.
        perplexity: Size of the neighborhood; smaller samples use (n - 1) / 3.
        seed: Of the optimization.

    Returns:
        ``(n, 2)`` float32.

    Example:
        >>> embed_tsne(np.random.default_rng(0).random((20, 5))).shape
        (20, 2)

    Reference: van der Maaten and Hinton, J. Mach. Learn. Res. 9, 2579 (2008).
    """
    perplexity = min(perplexity, (len(codes) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=seed).fit_transform(codes).astype(np.float32)


def subsample(n: int, limit: int, seed: int) -> np.ndarray:
    """Sorted indices of at most ``limit`` of n items, drawn with a seed.

    Args:
        n: Number of items.
        limit: Largest number that is drawn.
        seed: Of the draw.

    Returns:
        Indices ``(min(n, limit),)``, each at most once.

    Example:
        >>> subsample(3, 10, 0).tolist(), len(subsample(100, 10, 0))
        ([0, 1, 2], 10)
    """
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))
