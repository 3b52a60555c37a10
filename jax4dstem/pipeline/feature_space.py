"""Stages `features` and `embed`: which feature vectors, PCA, UMAP, codes of an autoencoder."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax4dstem.align import DirectBeam
from jax4dstem.cepstrum import cepstral_ring, lattice_quefrencies, unfold_cepstrum
from jax4dstem.dataset import Dataset
from jax4dstem.detectors import annular_mask, check_ring
from jax4dstem.embed import (
    AutoEncoder,
    VariationalAutoEncoder,
    embed_umap,
    fit_pca,
    project,
)
from jax4dstem.errors import InputError
from jax4dstem.features import (
    gather_features,
    log_counts,
    mask_pixels,
    noise_scale,
    ring_radii,
    root_counts,
    root_shares,
    scattering_radius,
    top_fraction,
)
from jax4dstem.io.results import Field
from jax4dstem.pipeline.prepared import (
    beam_position,
    bin_factor,
    cepstra,
    cepstrum_shape,
    prepare,
    relative_count,
)
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.polar import AngularCorrelations
from jax4dstem.reducers import Covariance, Moments
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.typing import Tree

MIN_UMAP = 15  # positions; fewer have no neighborhoods to embed
MOST_PIXELS = 2048  # features of kinds that take whole rings; the covariance has their square


class FeatureSpace(NamedTuple):
    """Feature vectors of a scan, and where they come from.

    Attributes:
        vectors: Dataset of vectors ``(p,)``.
        mask: Pixels of the pattern, or of the cepstrum's half plane, that they are made of.
        ring: Inner and outer radius of the mask, px.
    """

    vectors: Dataset
    mask: np.ndarray
    ring: tuple[float, float]


def features(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Log-STD map, mask, and PCA scores of the feature vectors."""
    prepared = prepare(dataset, done, recipe)
    valid = done["invalid"].data == 0
    moments = reduce_patterns(Moments(), prepared, weights=valid, progress="STD map")
    space = feature_space(dataset, done, recipe, moments.mean, moments.std)
    covariance = reduce_patterns(Covariance(), space.vectors, weights=valid, progress="covariance")
    pca = fit_pca(covariance, recipe.embed.n_components)
    components = pca.components.astype(np.float32)
    scores = map_patterns(project, space.vectors, pca.mean, components, progress="PCA scores")
    return {
        "features": {
            "mean_pattern": Field(moments.mean, "counts", "mean of the prepared patterns"),
            "std_map": Field(moments.std, "counts", "standard deviation of the prepared patterns"),
            "mask": Field(space.mask, "", f"feature pixels ({recipe.features.kind})"),
            "ring": Field(np.array(space.ring), "px", "inner and outer radius of the mask"),
            "bin": Field(
                np.array(bin_factor(dataset, recipe)), "px", "detector pixels per prepared pixel"
            ),
        },
        "pca": {
            "mean": Field(pca.mean, "", "mean feature vector"),
            "components": Field(components, "", "principal components"),
            "explained_variance": Field(pca.explained_variance, "", "variance of each score"),
            "explained_variance_ratio": Field(
                pca.explained_variance_ratio, "", "share of the total variance"
            ),
        },
        "embedding": {"pca": Field(_of_valid(scores, valid), "", "PCA scores; NaN = excluded")},
    }


def feature_space(
    dataset: Dataset, done: Tree, recipe: Recipe, mean: np.ndarray, std: np.ndarray
) -> FeatureSpace:
    """The feature vectors that a recipe asks for.

    Args:
        dataset: Raw patterns.
        done: Results of the stages `survey` and `align`.
        recipe: Its sections `features` and `cepstrum`.
        mean: Of the prepared patterns.
        std: Their standard deviation over the scan.
    """
    kind = recipe.features.kind
    if kind in ("angular", "angular_cepstrum"):
        return _angular_space(dataset, done, recipe, mean, std)
    if kind == "cepstrum":
        return _cepstral_space(dataset, done, recipe)
    pixels, allowed, ring = _pixels(dataset, done, recipe)
    if kind in ("sqrt", "log"):  # not the prepared counts themselves
        valid = done["invalid"].data == 0
        std = reduce_patterns(Moments(), pixels, weights=valid, progress=f"{kind} STD map").std
    whole = min(1.0, MOST_PIXELS / allowed.sum())
    mask = top_fraction(std, allowed, recipe.features.fraction if kind == "std" else whole)
    equalize = kind == "std" and recipe.features.scale == "equalize"
    scale = noise_scale(mean, mask) if equalize else np.ones(int(mask.sum()), np.float32)
    return FeatureSpace(pixels.map(gather_features, mask_pixels(mask), scale), mask, ring)


def _cepstral_space(dataset: Dataset, done: Tree, recipe: Recipe) -> FeatureSpace:
    """The cepstrum on a ring of quefrencies, where it varies most."""
    shape = prepare(dataset, done, recipe).pattern_shape
    ring = _cepstral_radii(dataset, recipe, shape)
    allowed = cepstral_ring(cepstrum_shape(shape, recipe), *ring)
    ones = np.ones(int(allowed.sum()), np.float32)
    values = cepstra(dataset, done, recipe).map(gather_features, mask_pixels(allowed), ones)
    if recipe.features.scale == "equalize":
        values = values.map(root_shares)
    valid = done["invalid"].data == 0
    std = reduce_patterns(Moments(), values, weights=valid, progress="cepstral STD map").std
    chosen = top_fraction(std, np.ones(std.shape, bool), recipe.features.fraction)
    mask = np.zeros_like(allowed)
    mask[allowed] = chosen
    vectors = values.map(gather_features, mask_pixels(chosen), ones[: chosen.sum()])
    return FeatureSpace(vectors, mask, ring)


def _pixels(
    dataset: Dataset, done: Tree, recipe: Recipe
) -> tuple[Dataset, np.ndarray, tuple[float, float]]:
    """The images whose pixels are features, and the ring of those that are allowed."""
    prepared = prepare(dataset, done, recipe)
    shape = prepared.pattern_shape
    ring = _feature_ring(dataset, done, recipe, shape)
    beam = jnp.asarray(beam_position(dataset, recipe))
    allowed = np.asarray(annular_mask(shape, beam, *ring)) > 0.5
    if recipe.features.kind == "sqrt":
        return prepared.map(root_counts), allowed, ring
    if recipe.features.kind == "log":
        offset = np.float32(relative_count(dataset, done, recipe))
        return prepared.map(log_counts, offset), allowed, ring
    return prepared, allowed, ring


def _angular_space(
    dataset: Dataset, done: Tree, recipe: Recipe, mean: np.ndarray, std: np.ndarray
) -> FeatureSpace:
    """Angular correlations of the patterns or of their cepstra."""
    shape = prepare(dataset, done, recipe).pattern_shape
    describe = AngularCorrelations()
    if recipe.features.kind == "angular":
        ring = _feature_ring(dataset, done, recipe, shape)
        center = beam_position(dataset, recipe)
        if recipe.features.outer is None:  # the farther out, the more a small tilt changes
            ring = ring[0], max(scattering_radius(mean, std, center, *ring), ring[0] + 2)
        blur = float(done["beam"]["radius"].data) / bin_factor(dataset, recipe) / 2
        source = prepare(dataset, done, recipe)
        mask = np.asarray(annular_mask(shape, jnp.asarray(center), *ring)) > 0.5
    else:
        ring = _cepstral_radii(dataset, recipe, shape)
        size = cepstrum_shape(shape, recipe)
        center, blur = np.array([size[0] // 2, size[1] // 2], np.float32), 1.0
        source = cepstra(dataset, done, recipe).map(_Unfold(size[1]))
        mask = cepstral_ring(size, *ring)
    spacing = (ring[1] - ring[0]) / (describe.rings - 1)
    blur = np.float32(max(blur, spacing / 2))
    vectors = source.map(describe, center, np.float32(ring[0]), np.float32(ring[1]), blur)
    return FeatureSpace(vectors, mask, ring)


class _Unfold(NamedTuple):
    width: int

    def __call__(self, half: Any) -> Any:
        return unfold_cepstrum(half, self.width)


def _feature_ring(
    dataset: Dataset, done: Tree, recipe: Recipe, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Radii of the feature mask in px of the prepared pattern, found or given."""
    factor = bin_factor(dataset, recipe)
    inner, outer = _given_radii(recipe, dataset.calibration.binned(factor).reciprocal_units)
    if inner is None or outer is None:
        beam = DirectBeam(done["beam"]["center"].data, float(done["beam"]["radius"].data))
        found = ring_radii(beam, done["center"].data, dataset.pattern_shape)
        inner = found[0] / factor if inner is None else inner
        outer = np.floor(found[1] / factor) if outer is None else outer
    y, x = beam_position(dataset, recipe)
    check_ring((shape[0], shape[1]), (float(y), float(x)), inner, outer)
    return float(inner), float(outer)


def _cepstral_radii(
    dataset: Dataset, recipe: Recipe, shape: tuple[int, ...]
) -> tuple[float, float]:
    """Radii of the cepstral mask in px of the transform, found or given."""
    size = cepstrum_shape(shape, recipe)
    calibration = dataset.calibration.binned(bin_factor(dataset, recipe))
    inner, outer = _given_radii(recipe, calibration.quefrency_step(min(size)))
    nearest, farthest = lattice_quefrencies(size, recipe.cepstrum.padding)
    inner = nearest if inner is None else inner
    outer = farthest if outer is None else outer
    check_ring(size, (size[0] // 2, size[1] // 2), inner, outer)
    return inner, outer


def _given_radii(recipe: Recipe, step: tuple[float, str]) -> tuple[float | None, float | None]:
    """The recipe's radii in px, where given; ``step`` is a pixel in the calibrated unit."""
    size, unit = step
    inner, outer = recipe.features.inner, recipe.features.outer
    if recipe.features.units == "px":
        return inner, outer
    if unit == "px":
        raise InputError(
            'features.units = "calibrated" needs a detector calibration: give --pixel in 1/Å'
        )
    return inner and inner / size, outer and outer / size


def embed(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """UMAP of the PCA scores, codes of an autoencoder, or the feature vectors themselves."""
    scores = done["embedding"]["pca"].data
    valid = np.isfinite(scores).all(axis=1)
    options = recipe.embed
    found: Tree = {}
    if options.umap and valid.sum() >= MIN_UMAP:
        embedded = embed_umap(
            scores[valid],
            n_components=options.umap_components,
            n_neighbors=options.n_neighbors,
            min_dist=options.min_dist,
            densmap=options.densmap,
            max_fit=options.max_fit,
            seed=recipe.seed,
        )
        found["umap"] = Field(
            _spread(embedded, valid), "", "UMAP of the PCA scores; NaN = excluded"
        )
    if options.codes == "none" and not options.keep_features:
        return {"embedding": found} if found else {}
    vectors = map_patterns(
        jnp.asarray, found_vectors(dataset, done, recipe), progress="feature vectors"
    ).reshape(dataset.n_patterns, -1)
    if options.keep_features:
        found["features"] = Field(_spread(vectors[valid], valid), "", "feature vectors")
    if options.codes != "none":
        model = {"ae": AutoEncoder, "vae": VariationalAutoEncoder}[options.codes](
            latent=min(options.n_components, vectors.shape[1]),
            batch_size=min(256, int(valid.sum())),
            random_state=recipe.seed,
        )
        codes = model.fit_transform(vectors[valid])
        found["codes"] = Field(
            _spread(codes, valid), "", f"codes of the features' {options.codes}; NaN = excluded"
        )
    return {"embedding": found}


def found_vectors(dataset: Dataset, done: Tree, recipe: Recipe) -> Dataset:
    """The feature vectors of a finished stage `features`, as a lazy dataset."""
    found = done["features"]
    mean, std = found["mean_pattern"].data, found["std_map"].data
    return feature_space(dataset, done, recipe, mean, std).vectors


def _of_valid(scores: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Scores over the scan as rows, NaN where the pattern is excluded."""
    return np.where(valid[..., None], scores, np.nan).reshape(valid.size, -1).astype(np.float32)


def _spread(rows: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Rows of the valid positions among NaN."""
    whole = np.full((len(valid), rows.shape[1]), np.nan, np.float32)
    whole[valid] = rows
    return whole
