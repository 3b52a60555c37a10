"""Scores and embeddings of a scan's feature vectors: PCA, UMAP, codes of an autoencoder."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jax4dstem.dataset import Dataset
from jax4dstem.embed import (
    AutoEncoderEstimator,
    VariationalEstimator,
    embed_umap,
    fit_pca,
    project,
)
from jax4dstem.fields import SCAN, Result, entry
from jax4dstem.reducers import Covariance
from jax4dstem.rows import known_positions, to_map, to_rows
from jax4dstem.stream import map_patterns, reduce_patterns

MIN_UMAP = 15  # positions; fewer have no neighborhoods to embed
CODES = {"ae": AutoEncoderEstimator, "vae": VariationalEstimator}
CODE_BATCH = 256  # samples per step of training; fewer where there are fewer


@dataclass(frozen=True)
class Scores(Result):
    """Principal components of the feature vectors, and every position's scores.

    Attributes:
        scores: ``(scan_y, scan_x, components)``, NaN where the pattern is invalid.
        mean: Mean feature vector, ``(features,)``.
        components: Principal components as rows, ``(components, features)``.
        explained_variance: Variance of every score, ``(components,)``.
        explained_variance_ratio: Its share of the total variance, ``(components,)``.
        rest: Sum of the squares of what the components leave of every feature vector, ``(scan_y, scan_x)``; NaN where the
            pattern is invalid. None in results of older versions.
    """

    scores: np.ndarray = entry(
        f"{SCAN} component", "", "PCA scores; NaN = excluded", "embedding/pca"
    )
    mean: np.ndarray = entry("feature", "", "mean feature vector", "pca/mean")
    components: np.ndarray = entry(
        "component feature", "", "principal components", "pca/components"
    )
    explained_variance: np.ndarray = entry(
        "component", "", "variance of each score", "pca/explained_variance"
    )
    explained_variance_ratio: np.ndarray = entry(
        "component", "1", "share of the total variance", "pca/explained_variance_ratio"
    )
    rest: np.ndarray | None = entry(
        SCAN,
        "",
        "sum of squares that the components leave of the features",
        "pca/rest",
        default=None,
    )


def score_features(vectors: Dataset, valid: np.ndarray, n_components: int = 10) -> Scores:
    """Principal components of the feature vectors of a scan, in two passes and bounded memory.

    Args:
        vectors: From `feature_vectors`.
        valid: Positions that count, ``(scan_y, scan_x)``.
        n_components: At most so many.

    Returns:
        Components and scores.

    Raises:
        InputError: Some valid pattern has features that are no numbers.

    Example:
        >>> line = np.arange(6.0, dtype=np.float32).reshape(2, 3, 1, 1) * np.array([[3.0, 4.0]], np.float32)
        >>> scores = score_features(Dataset.from_array(line).map(jnp.ravel), np.ones((2, 3), bool), 1)
        >>> np.abs(scores.components).round(2).tolist(), scores.explained_variance_ratio.round(2).tolist()
        ([[0.6000000238418579, 0.800000011920929]], [1.0])
    """
    covariance = reduce_patterns(Covariance(), vectors, weights=valid, progress="covariance")
    pca = fit_pca(covariance, n_components)
    components = pca.components.astype(np.float32)
    scores, rest = map_patterns(
        _project_with_rest, vectors, pca.mean, components, progress="PCA scores"
    )
    return Scores(
        np.where(valid[..., None], scores, np.nan).astype(np.float32),
        pca.mean,
        components,
        pca.explained_variance,
        pca.explained_variance_ratio,
        np.where(valid, rest, np.nan).astype(np.float32),
    )


def _project_with_rest(features: Any, mean: Any, components: Any) -> tuple[Any, Any]:
    """Scores of a feature vector, and the sum of the squares of what they leave."""
    scores = project(features, mean, components)
    return scores, jnp.sum((features - mean - scores @ components) ** 2)


@dataclass(frozen=True)
class Embedding(Result):
    """Other coordinates of the positions; NaN where a pattern is excluded, None where not asked for.

    Attributes:
        umap: UMAP of the PCA scores.
        codes: Codes of an autoencoder of the feature vectors.
        features: The feature vectors themselves.
    """

    umap: np.ndarray | None = entry(
        f"{SCAN} umap", "", "UMAP of the PCA scores; NaN = excluded", "embedding/umap", default=None
    )
    codes: np.ndarray | None = entry(
        f"{SCAN} code",
        "",
        "codes of an autoencoder; NaN = excluded",
        "embedding/codes",
        default=None,
    )
    features: np.ndarray | None = entry(
        f"{SCAN} feature", "", "feature vectors; NaN = excluded", "embedding/features", default=None
    )


def embed_scores(
    scores: np.ndarray,
    *,
    n_components: int = 3,
    n_neighbors: int = 15,
    min_dist: float = 0.0,
    densmap: bool = False,
    max_fit: int = 10_000,
    seed: int = 0,
) -> np.ndarray | None:
    """UMAP of the scores of a scan; None for fewer positions than have neighborhoods.

    Args:
        scores: ``(scan_y, scan_x, d)``, NaN where there is none.
        n_components: Dimension of the embedding.
        n_neighbors: Size of the neighborhood.
        min_dist: Smallest distance in the embedding.
        densmap: Keep densities.
        max_fit: Positions that UMAP itself sees; the others are interpolated.
        seed: Of everything random.

    Returns:
        ``(scan_y, scan_x, n_components)``.

    Example:
        >>> embed_scores(np.zeros((2, 2, 5))) is None  # four positions have no neighborhoods
        True
    """
    known = known_positions(scores)
    if known.sum() < MIN_UMAP:
        return None
    embedded = embed_umap(
        to_rows(scores, known),
        n_components=n_components,
        n_neighbors=n_neighbors,
        min_dist=min_dist,
        densmap=densmap,
        max_fit=max_fit,
        seed=seed,
    )
    return to_map(embedded, known)


def encode_features(
    features: np.ndarray, kind: Literal["ae", "vae"] = "ae", *, size: int = 10, seed: int = 0
) -> np.ndarray:
    """Codes of an autoencoder trained on the feature vectors of a scan.

    Args:
        features: ``(scan_y, scan_x, features)``, NaN where there are none.
        kind: "ae", or "vae" for a variational one.
        size: Of the code.
        seed: Of everything random.

    Returns:
        ``(scan_y, scan_x, size)``, NaN where there are no features.

    Example:
        >>> features = np.random.default_rng(0).random((3, 4, 5))
        >>> features[0, 0] = np.nan
        >>> codes = encode_features(features, size=2)
        >>> codes.shape, bool(np.isnan(codes[0, 0]).all())
        ((3, 4, 2), True)
    """
    known = known_positions(features)
    model = CODES[kind](
        latent=min(size, features.shape[-1]),
        batch_size=min(CODE_BATCH, int(known.sum())),
        random_state=seed,
    )
    return to_map(model.fit_transform(to_rows(features, known)), known)


def compute_vectors(vectors: Dataset, valid: np.ndarray) -> np.ndarray:
    """The feature vectors of a scan in memory, ``(scan_y, scan_x, features)``, NaN where a pattern is invalid.

    Args:
        vectors: From `feature_vectors`.
        valid: Positions that count, boolean ``(scan_y, scan_x)``.

    Returns:
        ``(scan_y, scan_x, features)``.

    Example:
        >>> vectors = Dataset.from_array(np.ones((1, 2, 3, 3), np.float32)).map(jnp.ravel)
        >>> compute_vectors(vectors, np.array([[True, False]]))[0, :, 0].tolist()
        [1.0, nan]
    """
    values = map_patterns(jnp.asarray, vectors, progress="feature vectors")
    return np.where(valid[..., None], values, np.nan)
