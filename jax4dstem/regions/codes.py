"""One model per region of a scan: codes, reconstruction errors, clusters of the codes, anomalies."""

import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from sklearn.cluster import KMeans

from jax4dstem.anomaly import AnomalyDetector
from jax4dstem.dataset import Dataset
from jax4dstem.fields import SCAN, Result, entry, group
from jax4dstem.models import AutoEncoderSpec, Dense, EvidenceBound, Reconstruction, VariationalSpec
from jax4dstem.reducers import Moments
from jax4dstem.rows import to_map
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
from jax4dstem.typing import Array, Float

ModelName = Literal["ae", "vae"]
KL_WARMUP = 0.1  # share of the training over which the divergence gets its weight


@dataclass(frozen=True)
class RegionTraining:
    """How the models of the regions are trained.

    Attributes:
        models: "ae" (autoencoder) and "vae" (variational).
        hidden: Sizes of the hidden layers.
        latent: Size of the code.
        epochs: Passes over a region.
        batch_size: Samples per step.
        learning_rate: Largest.
        kl_weight: Of the divergence of variational models.
        validation: Share of a region that is held out, in whole blocks.
        patience: Epochs without a smaller loss there that end a training.
        k: K-means clusters of the codes of a region.
        min_size: Smaller regions are left out.
    """

    models: tuple[ModelName, ...] = ("ae", "vae")
    hidden: tuple[int, ...] = (512,)
    latent: int = 8
    epochs: int = 40
    batch_size: int = 256
    learning_rate: float = 1e-3
    kl_weight: float = 1e-3
    validation: float = 0.15
    patience: int | None = 10
    k: int = 4
    min_size: int = 100


@dataclass(frozen=True)
class RegionModel(Result):
    """The model of one region.

    Attributes:
        trained: With its losses.
        boundary_sharpness: Change of the codes across the boundaries of their clusters over that inside.
    """

    trained: Trained
    boundary_sharpness: float = entry("", "", "change across over change inside")


@dataclass(frozen=True)
class RegionModels(Result):
    """Codes of all regions by one kind of model; what is not in a region is NaN, -1 or False.

    Attributes:
        codes: Of every position, ``(scan_y, scan_x, latent)``.
        reconstruction_error: Mean over features of variance 1, ``(scan_y, scan_x)``.
        labels: K-means cluster of the code, different in every region, ``(scan_y, scan_x)``.
        anomaly_p_value: Against held-out positions of the region, ``(scan_y, scan_x)``.
        anomaly: Boolean ``(scan_y, scan_x)``, of which 5 % are expected to be false.
        regions: The models, by ``"region_<id>"``.
    """

    codes: np.ndarray = entry(f"{SCAN} code", "", "code of the model of the region")
    reconstruction_error: np.ndarray = entry(SCAN, "", "mean over features of variance 1")
    labels: np.ndarray = entry(SCAN, "", "K-means of the codes, region by region; -1 = none")
    anomaly_p_value: np.ndarray = entry(SCAN, "", "against held-out positions of the region")
    anomaly: np.ndarray = entry(SCAN, "", "1 = anomaly, 5 % expected to be false")
    regions: dict[str, RegionModel] = group("regions")


@dataclass(frozen=True)
class RegionCodes(Result):
    """Codes by every kind of model.

    Attributes:
        models: Codes of all regions, by the kind of model.
    """

    models: dict[str, RegionModels] = group("latent")


class _Encoded(NamedTuple):
    """One model of one region; arrays over its positions only."""

    trained: Trained
    codes: np.ndarray
    errors: np.ndarray
    labels: np.ndarray
    p_value: np.ndarray
    anomalous: np.ndarray


def encode_regions(
    vectors: Dataset, regions: np.ndarray, options: RegionTraining | None = None, *, seed: int = 0
) -> RegionCodes:
    """Train a model of every region on its feature vectors, and judge all of its positions.

    A share of each region, in whole blocks, is held out: its losses are the honest ones, and it sets the thresholds for
    anomalies. Feature vectors are standardized within the region.

    Args:
        vectors: Feature vectors ``(features,)`` at every position.
        regions: Region of every position, ``(scan_y, scan_x)``; negative ones belong to none.
        options: Of models and training.
        seed: Of everything random.

    Returns:
        Codes, errors, clusters and anomalies of every kind of model; empty where no region is large enough.

    Example:
        >>> from jax4dstem.regions import RegionTraining
        >>> vectors = Dataset.from_array(np.zeros((2, 2, 2, 2))).map(jnp.ravel)
        >>> encode_regions(vectors, np.zeros((2, 2), int), RegionTraining(min_size=5)).models  # too small to learn from
        {}
    """
    options = options or RegionTraining()
    vectors = _in_memory(vectors)
    parts: dict[str, dict[int, _Encoded]] = {kind: {} for kind in options.models}
    for region in np.unique(regions[regions >= 0]):
        chosen = regions == region
        if chosen.sum() >= options.min_size:
            own = standardize_region(vectors, chosen)
            for kind in options.models:
                parts[kind][int(region)] = _encode(own, chosen, kind, options, seed)
    return RegionCodes(
        {kind: _on_scan(found, regions, options.k) for kind, found in parts.items() if found}
    )


def _in_memory(vectors: Dataset) -> Dataset:
    """Feature vectors computed once where they fit, as the passes of every region and epoch need them."""
    if 4 * vectors.n_patterns * vectors.sample.shape[0] > IN_MEMORY:
        return vectors
    values = map_patterns(jnp.asarray, vectors, progress="feature vectors")
    return Dataset.from_array(values[:, :, None, :]).map(_first_row)


def _first_row(x: Array) -> Array:
    return x[0]


def standardize_region(vectors: Dataset, chosen: np.ndarray) -> Dataset:
    """Feature vectors with mean 0 and variance 1 over the chosen positions; a constant feature becomes 0.

    Args:
        vectors: Feature vectors at every position.
        chosen: Boolean ``(scan_y, scan_x)``.

    Returns:
        The same dataset with one more step in its chain.

    Example:
        >>> vectors = Dataset.from_array(np.array([[[1.0], [3.0], [9.0]]])[..., None])
        >>> chosen = np.array([[True, True, False]])
        >>> standardize_region(vectors.map(jnp.ravel), chosen).sample.shape
        (1,)
    """
    moments = reduce_patterns(Moments(), vectors, weights=chosen, progress="feature moments")
    spread = np.where(moments.std > 0, moments.std, np.inf)
    return vectors.map(standardize, moments.mean, 1 / spread)


def standardize(
    x: Float[Array, " features"], mean: Float[Array, " features"], scale: Float[Array, " features"]
) -> Float[Array, " features"]:
    """A feature vector less its mean, times a scale.

    Args:
        x: ``(features,)``.
        mean: ``(features,)``.
        scale: ``(features,)``, such as one over the standard deviation.

    Returns:
        ``(features,)``.

    Example:
        >>> standardize(jnp.array([3.0, 1.0]), jnp.array([1.0, 1.0]), jnp.array([0.5, 2.0])).tolist()
        [1.0, 0.0]
    """
    return (x - mean) * scale


def _encode(
    vectors: Dataset, chosen: np.ndarray, kind: ModelName, options: RegionTraining, seed: int
) -> _Encoded:
    held = validation_region(chosen.shape, options.validation, seed, among=chosen)
    if not held.any() or held.sum() == chosen.sum():
        held = np.zeros_like(chosen)
    spec, objective = _model(kind, vectors.sample.shape[0], options)
    trained = train(
        spec,
        objective,
        feed_of(vectors, chosen & ~held),
        Training(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            patience=options.patience if held.any() else None,
            seed=seed,
        ),
        validation=feed_of(vectors, held) if held.any() else None,
        progress=f"training {kind}",
    )
    codes, errors = map_patterns(
        EncodeAndJudge(spec), vectors, trained.weights, progress=f"{kind} codes"
    )
    codes, errors = codes[chosen], errors[chosen]
    labels = KMeans(options.k, n_init=10, random_state=seed).fit_predict(codes)
    normal = held[chosen] if held.sum() > 2 * codes.shape[1] else np.ones(len(codes), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a covariance that is not of full rank
        found = AnomalyDetector.fit(codes[normal], errors[normal]).find(codes, errors)
    return _Encoded(trained, codes, errors, labels, found.p_value, found.by_discovery)


def _model(kind: ModelName, n_features: int, options: RegionTraining) -> tuple[Any, Any]:
    """What a model is made of, and its objective."""
    size, backbone = min(options.latent, n_features), Dense(options.hidden)
    if kind == "ae":
        return AutoEncoderSpec((n_features,), size, backbone), Reconstruction()
    objective = EvidenceBound(kl_weight=options.kl_weight, warmup=KL_WARMUP)
    return VariationalSpec((n_features,), size, backbone), objective


def _on_scan(parts: dict[int, _Encoded], regions: np.ndarray, k: int) -> RegionModels:
    """The regions' results as maps; labels are unique over regions."""
    known = np.isin(regions, list(parts))
    # One row per position of a known region, in the order of the scan.
    where = {region: (regions == region)[known] for region in parts}

    def joined(rows: dict[int, np.ndarray]) -> np.ndarray:
        first = next(iter(rows.values()))
        whole = np.empty((int(known.sum()), *first.shape[1:]), first.dtype)
        for region, values in rows.items():
            whole[where[region]] = values
        return whole

    codes = to_map(joined({r: p.codes.astype(np.float32) for r, p in parts.items()}), known)
    labels = to_map(
        joined({r: (p.labels + i * k).astype(np.int32) for i, (r, p) in enumerate(parts.items())}),
        known,
        -1,
    )
    models = {
        f"region_{region}": RegionModel(
            part.trained, boundary_sharpness(codes, np.where(regions == region, labels, -1))
        )
        for region, part in parts.items()
    }
    return RegionModels(
        codes,
        to_map(joined({r: p.errors.astype(np.float32) for r, p in parts.items()}), known),
        labels,
        to_map(joined({r: p.p_value.astype(np.float32) for r, p in parts.items()}), known),
        to_map(joined({r: p.anomalous.astype(np.int8) for r, p in parts.items()}), known, 0),
        models,
    )


def boundary_sharpness(codes: np.ndarray, labels: np.ndarray) -> float:
    """How much more codes change across the boundaries of their clusters than inside: 1 is no boundary.

    The ratio of the median distances between neighboring positions' codes with different labels and with
    the same.

    Args:
        codes: ``(scan_y, scan_x, latent)``, NaN where there is none.
        labels: ``(scan_y, scan_x)``, -1 where there is none.

    Returns:
        The ratio; NaN where there is no boundary or no inside.

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
