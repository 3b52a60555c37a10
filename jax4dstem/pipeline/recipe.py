"""The recipe: every parameter of every stage, as frozen dataclasses read from and written to TOML.

``"auto"`` in TOML is None here: the value is found from the data. A key that is not in a dataclass, or
a value of another type, is an error that names the key.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from jax4dstem.errors import InputError

Method = Literal["kmeans", "gmm", "hdbscan"]
FeatureKind = Literal["std", "raw", "sqrt", "log", "cepstrum", "angular", "angular_cepstrum"]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class Input:
    """How the file is read; what is not given is found. See `open_dataset`.

    ``invalid_patterns`` says what happens to blank patterns and patterns with NaN or infinite pixels:
    stop with an error, or exclude them (label -1).
    """

    key: str | None = None
    scan_shape: tuple[int, int] | None = None
    dtype: str | None = None
    axes: str | None = None
    frame_skip: int = 0
    flyback: int = 0
    detector_shape: tuple[int, int] | None = None
    crop_scan: Rectangle | None = None
    crop_detector: Rectangle | None = None
    bin_detector: int = 1
    pixel_inv_angstrom: float | None = None
    scan_step_nm: float | None = None
    energy_kv: float | None = None
    invalid_patterns: Literal["error", "exclude"] = "error"


@dataclass(frozen=True)
class Prepare:
    """Bad pixels, direct beam, normalization.

    ``search`` (px) is how far from the mean beam a pattern's beam may be; auto: a quarter of the
    detector. ``descan_order`` is the degree of the descan surface. ``bin`` sums detector pixels of the
    centered patterns; auto: down to about 128 px. ``contrast`` is how far a hot pixel stands out.
    """

    repair_pixels: bool = True
    contrast: float = 5.0
    search: float | None = None
    descan_order: int = 2
    bin: int | None = None
    normalize: Literal["dose", "peak", "none"] = "dose"


@dataclass(frozen=True)
class Detectors:
    """Radii of the virtual detectors in units of the direct beam's radius."""

    bright_field: float = 1.5
    dark_field_inner: float = 2.0
    dark_field_outer: float | None = None


@dataclass(frozen=True)
class Features:
    """Feature vectors: what of a pattern the clustering sees.

    ``kind``: "std" the counts of those pixels that vary most over the scan, "raw" the counts as they are, "sqrt" their root
    (equal shot noise everywhere), "log" their logarithm, "cepstrum" the cepstrum where it varies most, "angular" and
    "angular_cepstrum" the rotation-invariant angular correlations of pattern or cepstrum, for grains in any orientation.
    Only what lies between ``inner`` and ``outer`` counts: px of the prepared pattern or of the transform, or with
    ``units = "calibrated"`` 1/Å or Å; auto: from the direct beam to the detector edge (angular: as far as most of what varies reaches). ``fraction``
    is the share of pixels that "std" and "cepstrum" take. ``scale`` "equalize" makes features comparable: counts of "std" are
    divided by the root of their mean, so that shot noise is equal in all; of a cepstrum the roots of its values' shares are
    taken, which tilt and thickness change little; "none" leaves both as they are.
    """

    kind: FeatureKind = "std"
    inner: float | None = None
    outer: float | None = None
    units: Literal["px", "calibrated"] = "px"
    fraction: float = 0.3
    scale: Literal["equalize", "none"] = "equalize"


@dataclass(frozen=True)
class Cepstrum:
    """EWPC: ``shape`` of the window and its ``window`` width (Gaussian: standard deviation, px; auto: 0.4 of the covered
    radius; Hann: radius, px; auto: the covered radius), ``offset`` of the logarithm relative to the mean intensity (auto: one
    count), ``padding`` of the transform, ``flatten``: divide every ring by its mean."""

    shape: Literal["gaussian", "hann"] = "gaussian"
    window: float | None = None
    offset: float | None = None
    padding: int = 1
    flatten: bool = False


@dataclass(frozen=True)
class Embed:
    """PCA to ``n_components``; UMAP of the scores, fitted to at most ``max_fit`` positions (``densmap``: it keeps
    densities); ``codes`` of an autoencoder of the feature vectors, variational or not, of the same size;
    ``keep_features`` writes the feature vectors themselves, to cluster without any embedding."""

    n_components: int = 10
    umap: bool = True
    umap_components: int = 3
    n_neighbors: int = 15
    min_dist: float = 0.0
    densmap: bool = False
    max_fit: int = 10_000
    codes: Literal["none", "ae", "vae"] = "none"
    keep_features: bool = False


@dataclass(frozen=True)
class Cluster:
    """Divisive clustering in a ``space``: PCA scores, the UMAP embedding, the autoencoder's codes, or the features themselves.

    ``methods`` has one entry per level. ``k`` fixes the number of clusters of the first level; auto:
    chosen up to ``k_max``. ``drop_outliers`` is the share of positions set aside first. HDBSCAN has a smallest cluster, a
    number of neighbors that density is taken from (``min_samples``), and ``join_outliers`` to give all outliers to the nearest
    cluster, or only the clear ones, so that outliers lie between clusters. ``compare`` splits level 1 a second time by another method and says where the two disagree. ``reference`` is the
    cluster that strain and rotation of the others are given relative to; auto: the largest crystalline one of each level.
    """

    space: Literal["pca", "umap", "codes", "features"] = "pca"
    methods: tuple[Method, ...] = ("kmeans", "kmeans", "kmeans")
    k: int | None = None
    k_max: int = 6
    restarts: int = 10
    min_size: int = 20
    min_cluster_size: int | None = None
    min_samples: int | None = None
    join_outliers: Literal["none", "clear", "all"] = "none"
    drop_outliers: float = 0.0
    compare: Literal["none", "kmeans", "gmm", "hdbscan"] = "none"
    reference: int | None = None


@dataclass(frozen=True)
class Strain:
    """Strain relative to the lattice ``g1``, ``g2`` ((y, x) in px), to that of the crystal in the file ``cif``
    seen along ``zone`` [u, v, w] (needs the detector's calibration), or to the median of the scan, of a
    ``region`` (y0, y1, x0, x1) or of a ``cluster`` of level 1. ``cepstrum`` measures it from the
    cepstrum as well, ``bases`` is the largest number of base lattices that are learned from all fits (0: none), and
    with ``mixing`` positions near boundaries are fitted as sums of them.
    ``bin`` neighbors along each side are summed before, for a few hundred electrons per pattern. ``enabled`` is for `analyze`."""

    enabled: bool = True
    g1: tuple[float, float] | None = None
    g2: tuple[float, float] | None = None
    cif: str | None = None
    zone: tuple[int, int, int] = (0, 0, 1)
    region: Rectangle | None = None
    cluster: int | None = None
    cepstrum: bool = True
    bases: int = 64
    mixing: bool = True
    bin: int = 1

    @property
    def references(self) -> list[Any]:
        """What is given of the ways to say a reference; none is the median of the scan."""
        ways = (self.g1, self.cif, self.region, self.cluster)
        return [way for way in ways if way is not None]


@dataclass(frozen=True)
class Latent:
    """Autoencoders of every cluster of a ``level``: codes, K-means of them, anomalies.

    ``models``: "ae" (autoencoder), "vae" (variational). ``hidden`` and ``latent`` are layer sizes, ``k`` the
    number of K-means clusters, ``validation`` the share of the region held out in blocks, ``patience`` the epochs
    without a smaller loss there that end a training. Only clusters of ``min_size`` positions are trained on. ``enabled``: in `analyze`.
    """

    enabled: bool = False
    models: tuple[Literal["ae", "vae"], ...] = ("ae", "vae")
    level: int = 1
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
class Recipe:
    """Every stage's parameters; `Recipe()` is the default recipe."""

    seed: int = 0
    input: Input = field(default_factory=Input)
    prepare: Prepare = field(default_factory=Prepare)
    detectors: Detectors = field(default_factory=Detectors)
    features: Features = field(default_factory=Features)
    cepstrum: Cepstrum = field(default_factory=Cepstrum)
    embed: Embed = field(default_factory=Embed)
    cluster: Cluster = field(default_factory=Cluster)
    strain: Strain = field(default_factory=Strain)
    latent: Latent = field(default_factory=Latent)


def load_recipe(path: str | Path | None, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe and apply overrides.

    Args:
        path: A TOML file, or None for the default recipe.
        overrides: Values by dotted key, such as ``{"cluster.k": 3}``.

    Returns:
        The validated recipe.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown, a value has a wrong type or range.

    Example:
        >>> load_recipe(None, {"cluster.k": 3}).cluster.k
        3
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(Path(path).read_text())
        except OSError as error:
            raise InputError(f"cannot read the recipe {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"the recipe {path} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        *sections, name = key.split(".")
        target = table
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"recipe key {key}: {section} is not a section")
        target[name] = value
    recipe = _build(Recipe, table, "")
    _check_ranges(recipe)
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML text, with every default written out."""

    def plain(value: Any) -> Any:
        if value is None:
            return "auto"
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return tomli_w.dumps(plain(dataclasses.asdict(recipe)))


def _build(cls: Any, table: Any, prefix: str) -> Any:
    if not isinstance(table, dict):
        raise InputError(f"recipe key {prefix.rstrip('.')} must be a section, got {table!r}")
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in table.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            advice = (
                f"; did you mean {prefix}{near[0]}?" if near else f"; known: {', '.join(hints)}"
            )
            raise InputError(f"unknown recipe key {prefix}{key}{advice}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            values[key] = _build(hint, value, f"{prefix}{key}.")
        else:
            values[key] = _convert(value, hint, f"{prefix}{key}")
    return cls(**values)


def _convert(value: Any, hint: Any, key: str) -> Any:
    """The TOML value as the annotated type, or an error that names the key."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        inner = next(arg for arg in args if arg is not type(None))
        return None if value == "auto" else _convert(value, inner, key)
    if origin is Literal:
        if value in args:
            return value
        raise InputError(f"recipe key {key} must be one of {', '.join(args)}; got {value!r}")
    if origin is tuple:
        repeated = len(args) == 2 and args[1] is Ellipsis
        if isinstance(value, list | tuple) and value and (repeated or len(value) == len(args)):
            kinds = [args[0]] * len(value) if repeated else args
            return tuple(_convert(v, kind, key) for v, kind in zip(value, kinds, strict=True))
        expected = "a list" if repeated else f"a list of {len(args)} values"
        raise InputError(f"recipe key {key} must be {expected}; got {value!r}")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"recipe key {key} must be of type {hint.__name__}; got {value!r}")


def _check_ranges(recipe: Recipe) -> None:
    """Ranges that a type cannot express; those that depend on the data are checked with the data."""
    at_least: list[tuple[str, float]] = [
        ("input.bin_detector", 1),
        ("input.frame_skip", 0),
        ("input.flyback", 0),
        ("prepare.descan_order", 0),
        ("prepare.bin", 1),
        ("prepare.contrast", 1),
        ("embed.n_components", 1),
        ("embed.umap_components", 1),
        ("embed.n_neighbors", 2),
        ("embed.max_fit", 100),
        ("cluster.k", 1),
        ("cluster.k_max", 2),
        ("cluster.restarts", 1),
        ("cluster.min_size", 2),
        ("cluster.min_cluster_size", 2),
        ("cluster.min_samples", 1),
        ("cluster.reference", 0),
        ("cepstrum.padding", 1),
        ("features.inner", 0),
        ("cepstrum.offset", 0),
        ("strain.bases", 0),
        ("strain.bin", 1),
        ("latent.level", 1),
        ("latent.latent", 1),
        ("latent.epochs", 1),
        ("latent.batch_size", 1),
        ("latent.kl_weight", 0),
        ("latent.k", 2),
        ("latent.patience", 1),
        ("latent.min_size", 10),
        ("detectors.bright_field", 0),
        ("detectors.dark_field_inner", 0),
    ]
    for key, low in at_least:
        value = _get(recipe, key)
        if value is not None and value < low:
            raise InputError(f"recipe key {key} must be at least {low:g}; got {value:g}")
    for key in (
        "prepare.search",
        "cepstrum.window",
        "input.pixel_inv_angstrom",
        "input.scan_step_nm",
        "input.energy_kv",
        "features.outer",
        "latent.learning_rate",
    ):
        value = _get(recipe, key)
        if value is not None and not value > 0:
            raise InputError(f"recipe key {key} must be positive; got {value:g}")
    if not 0 < recipe.features.fraction <= 1:
        raise InputError(
            f"recipe key features.fraction must lie in (0, 1]; got {recipe.features.fraction:g}"
        )
    if not 0 <= recipe.cluster.drop_outliers <= 0.5:
        raise InputError(
            "recipe key cluster.drop_outliers must lie in [0, 0.5]; "
            f"got {recipe.cluster.drop_outliers:g}"
        )
    if not 0 <= recipe.latent.validation <= 0.5:
        raise InputError(
            f"recipe key latent.validation must lie in [0, 0.5]; got {recipe.latent.validation:g}"
        )
    inner, outer = recipe.features.inner, recipe.features.outer
    if inner is not None and outer is not None and inner >= outer:
        raise InputError(f"features.inner {inner:g} must be smaller than features.outer {outer:g}")
    if (recipe.strain.g1 is None) != (recipe.strain.g2 is None):
        raise InputError("strain.g1 and strain.g2 must be given together")
    if len(recipe.strain.references) > 1:
        raise InputError(
            "strain.g1 and g2, strain.cif, strain.region and strain.cluster exclude each other"
        )
    if recipe.strain.g1 is not None and recipe.strain.g2 is not None:
        (a, b), (c, d) = recipe.strain.g1, recipe.strain.g2
        if abs(a * d - b * c) < 0.1 * ((a * a + b * b) * (c * c + d * d)) ** 0.5:
            raise InputError(
                f"strain.g1 {recipe.strain.g1} and g2 {recipe.strain.g2} px span no lattice: "
                "they are zero or nearly parallel"
            )
    if recipe.cluster.space == "umap" and not recipe.embed.umap:
        raise InputError("cluster.space = 'umap' needs embed.umap = true")
    if recipe.cluster.space == "codes" and recipe.embed.codes == "none":
        raise InputError("cluster.space = 'codes' needs embed.codes = 'ae' or 'vae'")
    if recipe.cluster.space == "features" and not recipe.embed.keep_features:
        raise InputError("cluster.space = 'features' needs embed.keep_features = true")


def check_recipe_fits(recipe: Recipe, shape: tuple[int, ...]) -> None:
    """Raise InputError for lengths in the recipe that no pattern of this shape can satisfy."""
    height, width = shape[:2]
    factor = recipe.prepare.bin or 1
    if factor > min(height, width) // 8:
        raise InputError(f"prepare.bin {factor} leaves too little of a {height} x {width} detector")
    room = min(height, width) / 2
    for key in ("features.inner", "features.outer"):
        value = _get(recipe, key)
        if recipe.features.units == "px" and value is not None and value * factor > room:
            raise InputError(
                f"{key} {value:g} px lies outside the {height} x {width} detector; "
                f"a ring of at most {room / factor:g} px fits"
            )


def _get(recipe: Recipe, key: str) -> Any:
    value: Any = recipe
    for part in key.split("."):
        value = getattr(value, part)
    return value
