"""Stages `features` and `embed`: log-STD map, mask, feature vectors, PCA and UMAP."""

import numpy as np

from jax4dstem.align import DirectBeam
from jax4dstem.cepstrum import cepstral_ring
from jax4dstem.dataset import Dataset
from jax4dstem.detectors import check_ring
from jax4dstem.embed import embed_umap, fit_pca, project
from jax4dstem.features import (
    gather_features,
    mask_pixels,
    poisson_scale,
    ring_radii,
    select_pixels,
    top_fraction,
)
from jax4dstem.io.results import Field
from jax4dstem.pipeline.prepared import beam_position, bin_factor, cepstra, prepare
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.reducers import Covariance, Moments
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Tree

MIN_UMAP = 15  # positions; fewer have no neighborhoods to embed


def features(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Log-STD map, mask, and PCA scores of the feature vectors."""
    prepared = prepare(dataset, done, recipe)
    valid = done["invalid"].data == 0
    moments = reduce_patterns(Moments(), prepared, weights=valid, progress="STD map")
    if recipe.features.kind == "std":
        ring = _feature_ring(dataset, done, recipe, moments.mean.shape)
        beam = beam_position(dataset, recipe)
        mask = select_pixels(moments.std, beam, *ring, recipe.features.fraction)
        space, mean = prepared, moments.mean
    else:
        ring = _cepstral_radii(recipe, moments.mean.shape)
        space = cepstra(dataset, done, recipe)
        cepstral = reduce_patterns(Moments(), space, weights=valid, progress="cepstral STD map")
        allowed = cepstral_ring(moments.mean.shape, *ring)
        mask = top_fraction(cepstral.std, allowed, recipe.features.fraction)
        mean = cepstral.mean
    vectors = _feature_vectors(space, mask, mean, recipe)
    covariance = reduce_patterns(Covariance(), vectors, weights=valid, progress="covariance")
    pca = fit_pca(covariance, recipe.embed.n_components)
    scores = map_patterns(
        project, vectors, pca.mean, pca.components.astype(np.float32), progress="PCA scores"
    )
    scores = np.where(valid[..., None], scores, np.nan).reshape(dataset.n_patterns, -1)
    return {
        "features": {
            "mean_pattern": Field(moments.mean, "counts", "mean of the prepared patterns"),
            "std_map": Field(moments.std, "counts", "standard deviation of the prepared patterns"),
            "mask": Field(mask, "", f"feature pixels ({recipe.features.kind})"),
            "ring": Field(np.array(ring), "px", "inner and outer radius of the mask"),
            "bin": Field(
                np.array(bin_factor(dataset, recipe)), "px", "detector pixels per prepared pixel"
            ),
        },
        "pca": {
            "mean": Field(pca.mean, "", "mean feature vector"),
            "components": Field(pca.components.astype(np.float32), "", "principal components"),
            "explained_variance": Field(pca.explained_variance, "", "variance of each score"),
            "explained_variance_ratio": Field(
                pca.explained_variance_ratio, "", "share of the total variance"
            ),
        },
        "embedding": {"pca": Field(scores.astype(np.float32), "", "PCA scores; NaN = excluded")},
    }


def _feature_ring(
    dataset: Dataset, done: Tree, recipe: Recipe, shape: tuple[int, int]
) -> tuple[float, float]:
    """Radii of the feature mask in px of the prepared pattern, found or given."""
    inner, outer = recipe.features.inner, recipe.features.outer
    if inner is None or outer is None:
        beam = DirectBeam(done["beam"]["center"].data, float(done["beam"]["radius"].data))
        found = ring_radii(beam, done["center"].data, dataset.pattern_shape)
        factor = bin_factor(dataset, recipe)
        inner = found[0] / factor if inner is None else inner
        outer = np.floor(found[1] / factor) if outer is None else outer
    y, x = beam_position(dataset, recipe)
    check_ring(shape, (float(y), float(x)), inner, outer)
    return float(inner), float(outer)


def _cepstral_radii(recipe: Recipe, shape: tuple[int, int]) -> tuple[float, float]:
    """Radii of the cepstral mask in px of the transform, found or given."""
    inner = 4.0 if recipe.features.inner is None else recipe.features.inner
    outer = min(shape) / 4 if recipe.features.outer is None else recipe.features.outer
    check_ring(shape, (shape[0] // 2, shape[1] // 2), inner, outer)
    return inner, outer


def _feature_vectors(space: Dataset, mask: np.ndarray, mean: np.ndarray, recipe: Recipe) -> Dataset:
    scale = np.ones(int(mask.sum()), np.float32)
    if recipe.features.kind == "std" and recipe.features.scale == "poisson":
        scale = poisson_scale(mean, mask)
    return space.map(gather_features, mask_pixels(mask), scale)


def embed(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """UMAP of the PCA scores."""
    scores = done["embedding"]["pca"].data
    valid = np.isfinite(scores).all(axis=1)
    if not recipe.embed.umap or valid.sum() < MIN_UMAP:
        return {}
    options = recipe.embed
    embedded = np.full((len(scores), options.umap_components), np.nan, np.float32)
    embedded[valid] = embed_umap(
        scores[valid],
        n_components=options.umap_components,
        n_neighbors=options.n_neighbors,
        min_dist=options.min_dist,
        max_fit=options.max_fit,
        seed=recipe.seed,
    )
    return {"embedding": {"umap": Field(embedded, "", "UMAP of the PCA scores; NaN = excluded")}}
