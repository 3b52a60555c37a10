"""Stage `latent`: autoencoders of every region, clusters of their codes, and anomalies."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans

from jax4dstem.anomaly import AnomalyDetector
from jax4dstem.dataset import Dataset
from jax4dstem.errors import InputError
from jax4dstem.io.results import Field
from jax4dstem.models import AutoEncoderSpec, Dense, EvidenceBound, Reconstruction, VariationalSpec
from jax4dstem.pipeline.feature_space import found_vectors
from jax4dstem.pipeline.recipe import Latent, Recipe
from jax4dstem.reducers import Moments
from jax4dstem.stream import map_patterns, reduce_patterns
from jax4dstem.train import (
    IN_MEMORY,
    EncodeAndJudge,
    Trained,
    Training,
    feed_of,
    train,
    validation_region,
)
from jax4dstem.typing import Array, Float, Tree

NAMES = {"ae": "autoencoder", "vae": "variational autoencoder"}


@dataclass(frozen=True)
class RegionCodes:
    """One model of one region; arrays over its positions only."""

    trained: Trained
    codes: np.ndarray
    errors: np.ndarray
    labels: np.ndarray
    p_value: np.ndarray
    anomalous: np.ndarray


Parts = dict[int, tuple[np.ndarray, RegionCodes]]


def latent(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    """Codes, reconstruction errors, labels and anomalies of every model, over the scan.

    Raises:
        InputError: There is no such level of clusters.
    """
    options = recipe.latent
    if not options.enabled:
        return {}
    name = f"level_{options.level}"
    if name not in done["labels"]:
        raise InputError(f"latent.level: there are no clusters of level {options.level}")
    regions = done["labels"][name].data
    vectors = in_memory(found_vectors(dataset, done, recipe))
    parts: dict[str, Parts] = {kind: {} for kind in options.models}
    for region in np.unique(regions[regions >= 0]):
        chosen = regions == region
        if chosen.sum() >= options.min_size:
            own = standardized(vectors, chosen)
            for kind in options.models:
                parts[kind][int(region)] = (chosen, encode_region(own, chosen, kind, recipe))
    groups = {
        kind: _on_scan(found, options, dataset.scan_shape, kind)
        for kind, found in parts.items()
        if found
    }
    return {"latent": groups} if groups else {}


def in_memory(vectors: Dataset) -> Dataset:
    """Feature vectors computed once where they fit, as the passes of every region and epoch need them."""
    if 4 * vectors.n_patterns * vectors.sample.shape[0] > IN_MEMORY:
        return vectors
    values = map_patterns(_identity, vectors, progress="feature vectors")
    return Dataset.from_array(values[:, :, None, :]).map(_first_row)


def standardized(vectors: Dataset, chosen: np.ndarray) -> Dataset:
    """Feature vectors with mean 0 and variance 1 over the chosen positions."""
    moments = reduce_patterns(Moments(), vectors, weights=chosen, progress="feature moments")
    spread = np.where(moments.std > 0, moments.std, np.inf)  # a constant feature becomes 0
    return vectors.map(standardize, moments.mean, 1 / spread)


def _identity(x: Array) -> Array:
    return x


def _first_row(x: Array) -> Array:
    return x[0]


def standardize(
    x: Float[Array, " features"], mean: Float[Array, " features"], scale: Float[Array, " features"]
) -> Float[Array, " features"]:
    """A feature vector less its mean, times a scale."""
    return (x - mean) * scale


def encode_region(vectors: Dataset, chosen: np.ndarray, kind: str, recipe: Recipe) -> RegionCodes:
    """Train one model on a region's feature vectors and judge all of its positions.

    A share of the region, in whole blocks, is held out: its losses are the honest ones, and it sets the
    thresholds for anomalies.
    """
    options = recipe.latent
    held = validation_region(chosen.shape, options.validation, recipe.seed, among=chosen)
    if not held.any() or held.sum() == chosen.sum():
        held = np.zeros_like(chosen)
    (n_features,) = vectors.sample.shape
    backbone = Dense(options.hidden)
    size = min(options.latent, n_features)
    if kind == "ae":
        spec, objective = AutoEncoderSpec((n_features,), size, backbone), Reconstruction()
    else:
        spec = VariationalSpec((n_features,), size, backbone)
        objective = EvidenceBound(kl_weight=options.kl_weight, warmup=0.1)
    trained = train(
        spec,
        objective,
        feed_of(vectors, chosen & ~held),
        Training(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            patience=options.patience if held.any() else None,
            seed=recipe.seed,
        ),
        validation=feed_of(vectors, held) if held.any() else None,
        progress=f"training {kind}",
    )
    codes, errors = map_patterns(
        EncodeAndJudge(spec), vectors, trained.weights, progress=f"{kind} codes"
    )
    codes, errors = codes[chosen], errors[chosen]
    labels = KMeans(options.k, n_init=10, random_state=recipe.seed).fit_predict(codes)
    normal = held[chosen] if held.sum() > 2 * size else np.ones(len(codes), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a covariance that is not of full rank
        found = AnomalyDetector.fit(codes[normal], errors[normal]).find(codes, errors)
    return RegionCodes(trained, codes, errors, labels, found.p_value, found.by_discovery)


def boundary_sharpness(codes: np.ndarray, labels: np.ndarray) -> float:
    """How much more codes change across the boundaries of their clusters than inside: 1 is no boundary.

    The ratio of the median distances between neighboring positions' codes with different labels and with
    the same.

    Args:
        codes: ``(scan_y, scan_x, latent)``, NaN where there is none.
        labels: ``(scan_y, scan_x)``, -1 where there is none.

    Example:
        >>> codes = np.array([[[0.0], [0.1], [5.0], [5.1]]])
        >>> round(boundary_sharpness(codes, np.array([[0, 0, 1, 1]])), 1)
        49.0
    """
    across, inside = [], []
    for axis in (0, 1):
        n = codes.shape[axis]
        a, b = (np.take(codes, np.arange(i, n - 1 + i), axis) for i in (0, 1))
        la, lb = (np.take(labels, np.arange(i, n - 1 + i), axis) for i in (0, 1))
        gap = np.linalg.norm(a - b, axis=-1)
        known = (la >= 0) & (lb >= 0)
        across.append(gap[known & (la != lb)])
        inside.append(gap[known & (la == lb)])
    across, inside = np.concatenate(across), np.concatenate(inside)
    if not len(across) or not len(inside):
        return float("nan")
    return float(np.median(across) / max(np.median(inside), 1e-12))


def _on_scan(
    parts: Parts,
    options: Latent,
    scan_shape: tuple[int, int],
    kind: str,
) -> Tree:
    """The regions' results as maps; labels are unique over regions."""
    size = next(iter(parts.values()))[1].codes.shape[1]
    codes = np.full((*scan_shape, size), np.nan, np.float32)
    maps = {name: np.full(scan_shape, np.nan, np.float32) for name in ("errors", "p_value")}
    labels = np.full(scan_shape, -1, np.int32)
    anomalous = np.zeros(scan_shape, np.int8)
    groups: Tree = {}
    for index, (region, (chosen, found)) in enumerate(parts.items()):
        codes[chosen], maps["errors"][chosen] = found.codes, found.errors
        maps["p_value"][chosen], anomalous[chosen] = found.p_value, found.anomalous
        labels[chosen] = found.labels + index * options.k
        own = np.where(chosen, labels, -1)
        groups[f"region_{region}"] = {
            **found.trained.fields(),
            "boundary_sharpness": Field(
                np.array(boundary_sharpness(codes, own)), "", "change across over change inside"
            ),
        }
    about = NAMES[kind]
    return {
        "codes": Field(codes, "", f"code of the {about} of the region"),
        "reconstruction_error": Field(maps["errors"], "", "mean over features of variance 1"),
        "labels": Field(labels, "", "K-means of the codes, region by region; -1 = none"),
        "anomaly_p_value": Field(maps["p_value"], "", "against held-out positions of the region"),
        "anomaly": Field(anomalous, "", "1 = anomaly, 5 % expected to be false"),
        **groups,
    }
