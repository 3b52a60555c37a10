"""The sections of a recipe: every parameter of every stage, with its meaning, unit, range and default.

None is ``"auto"`` in TOML: the value is found from the data. What two keys say to each other is checked by their section.
"""

from dataclasses import asdict, dataclass, field
from math import radians
from typing import Annotated, Any, Literal

from jax4dstem.errors import InputError
from jax4dstem.pipeline.keys import AtLeast, AtMost, Doc, NotEmpty, Positive

Rectangle = tuple[int, int, int, int]
Lengths = tuple[Annotated[int, AtLeast(1)], Annotated[int, AtLeast(1)]]
# Keys of the section `calibration` and the attributes of a dataset's calibration that they give.
CALIBRATION_KEYS = {
    "pixel": "pixel_inv_angstrom",
    "pixel_y": "pixel_y_inv_angstrom",
    "ellipse": "ellipse",
    "scan_rotation": "scan_rotation",
    "scan_flip": "scan_flip",
    "scan_step": "scan_step_nm",
    "scan_step_y": "scan_step_y_nm",
    "energy": "energy_kv",
}
PARALLEL = 0.1  # sine of the angle between two vectors, below which they are no basis: reduced ones enclose 60 to 120 degrees


@dataclass(frozen=True)
class Input:
    """How the file is read; what is not given is found. See `open_dataset`."""

    key: Annotated[str | None, Doc("dataset inside the file; auto: the only one that fits")] = None
    index: Annotated[
        int | None,
        AtLeast(0),
        Doc("which scan of a series in the file, from 0; auto: the only one"),
    ] = None
    scan_shape: Annotated[
        Lengths | None,
        Doc("rows and columns of the scan; auto: as the file says", "positions"),
    ] = None
    dtype: Annotated[
        str | None,
        Doc("stored type of a bare .raw file, such as uint16; elsewhere a type to convert to"),
    ] = None
    axes: Annotated[
        str | None, Doc("stored order, such as 'frame,det_y,det_x'; auto: as the file says")
    ] = None
    frame_skip: Annotated[
        int, AtLeast(0), Doc("patterns of a stack before the first scan position", "patterns")
    ] = 0
    flyback: Annotated[
        int,
        AtLeast(0),
        Doc("patterns of a stack after every scan row that belong to no position", "patterns"),
    ] = 0
    detector_shape: Annotated[
        Lengths | None, Doc("rows and columns of the detector, for a bare .raw file", "px")
    ] = None
    header_bytes: Annotated[
        int, AtLeast(0), Doc("what stands before the first pattern of a bare .raw file", "bytes")
    ] = 0
    gap_bytes: Annotated[
        int, AtLeast(0), Doc("what stands after each pattern of a bare .raw file", "bytes")
    ] = 0
    footer_bytes: Annotated[
        int, AtLeast(0), Doc("what stands at the end of a bare .raw file", "bytes")
    ] = 0
    crop_scan: Annotated[
        Rectangle | None, Doc("part of the scan to read: y0, y1, x0, x1; auto: all", "positions")
    ] = None
    crop_detector: Annotated[
        Rectangle | None, Doc("part of the detector to read: y0, y1, x0, x1; auto: all", "px")
    ] = None
    bin_detector: Annotated[
        int, AtLeast(1), Doc("detector pixels along each side that are summed on reading", "px")
    ] = 1
    invalid_patterns: Annotated[
        Literal["error", "exclude"],
        Doc("blank patterns and patterns with NaN or infinite pixels: stop, or give them label -1"),
    ] = "error"


@dataclass(frozen=True)
class Calibration:
    """Scales and axes of detector and scan, applied before any answer; what is not given is as the file says."""

    pixel: Annotated[
        float | None,
        Positive(),
        Doc("size of a detector pixel before binning, along x where y differs", "1/Å"),
    ] = None
    pixel_y: Annotated[
        float | None, Positive(), Doc("size of a detector pixel along y; auto: as along x", "1/Å")
    ] = None
    ellipse: Annotated[
        tuple[float, float] | None,
        Doc(
            "a, b of the projector lenses' distortion: a stretches patterns along x and shrinks them along y, b the same "
            "along the diagonals"
        ),
    ] = None
    scan_rotation: Annotated[
        float | None, Doc("from the scan's to the detector's axes, counter-clockwise", "degrees")
    ] = None
    scan_flip: Annotated[
        bool | None, Doc("the detector's y axis is mirrored against the scan's")
    ] = None
    scan_step: Annotated[
        float | None,
        Positive(),
        Doc("distance between scan positions, along x where y differs", "nm"),
    ] = None
    scan_step_y: Annotated[
        float | None, Positive(), Doc("distance between scan rows; auto: as along x", "nm")
    ] = None
    energy: Annotated[float | None, Positive(), Doc("energy of the beam", "kV")] = None

    def given(self) -> dict[str, Any]:
        """As `open_dataset` takes it: by attribute of the dataset's calibration, angles in radians."""
        values = asdict(self)
        if values["scan_rotation"] is not None:
            values["scan_rotation"] = radians(values["scan_rotation"])
        return {attribute: values[key] for key, attribute in CALIBRATION_KEYS.items()}


@dataclass(frozen=True)
class Prepare:
    """Bad pixels, direct beam, normalization."""

    repair_pixels: Annotated[bool, Doc("leave hot and dead detector pixels out")] = True
    contrast: Annotated[
        float, AtLeast(1), Doc("how many times brighter than every neighbor a hot pixel is")
    ] = 5.0
    search: Annotated[
        float | None,
        Positive(),
        Doc("how far from the mean beam a pattern's may be; auto: a quarter of the detector", "px"),
    ] = None
    scan_mask: Annotated[
        str | None,
        Doc(
            "positions to leave out: a file like that of detector.mask, a rectangle 'y0,y1,x0,x1', or a condition such as "
            "'annular_dark_field > 100' (bright_field, annular_dark_field, dose)"
        ),
    ] = None
    center: Annotated[
        tuple[float, float] | str | None,
        Doc(
            "where the direct beam is: (y, x), or a file with a center for every position; auto: found",
            "px",
        ),
    ] = None
    align: Annotated[
        bool, Doc("look for the center of every pattern; false: it is `center`, or the mean one")
    ] = True
    descan_order: Annotated[
        int, AtLeast(0), Doc("degree of the polynomial that the descan is fitted with")
    ] = 2
    bin: Annotated[
        int | None,
        AtLeast(1),
        Doc(
            "pixels of centered patterns along each side that are summed; auto: down to about 128 px",
            "px",
        ),
    ] = None
    normalize: Annotated[
        Literal["dose", "peak", "none"],
        Doc("what every pattern is divided by: its sum, its largest pixel, nothing"),
    ] = "dose"


@dataclass(frozen=True)
class Detector:
    """What counts are: counts = offset + gain x electrons, with read-out noise."""

    gain: Annotated[
        float | None,
        Positive(),
        Doc("auto: found from how neighboring patterns differ", "counts/electron"),
    ] = None
    offset: Annotated[
        float | None, Doc("counts without electrons; auto: found in the same way", "counts")
    ] = None
    read_noise: Annotated[
        float | None,
        AtLeast(0),
        Doc("standard deviation of the read-out; auto: found in the same way", "counts"),
    ] = None
    mask: Annotated[
        str | None,
        Doc(
            "file of pixels that cannot be used, not 0: .npy, .tif or FILE.h5:KEY; those of the data's own file count as well"
        ),
    ] = None
    mask_rectangles: Annotated[
        tuple[Rectangle, ...], Doc("further ones: y0, y1, x0, x1 of each rectangle", "px")
    ] = ()


@dataclass(frozen=True)
class Images:
    """Radii of the virtual detectors."""

    bright_field: Annotated[
        float, AtLeast(0), Doc("radius of the bright field", "radii of the direct beam")
    ] = 1.5
    dark_field_inner: Annotated[
        float, AtLeast(0), Doc("inner radius of the annular dark field", "radii of the direct beam")
    ] = 2.0
    dark_field_outer: Annotated[
        float | None,
        Positive(),
        Doc(
            "outer radius of the annular dark field; auto: the detector's edge",
            "radii of the direct beam",
        ),
    ] = None


@dataclass(frozen=True)
class Features:
    """Feature vectors: what of a pattern the clustering sees.

    "std" takes the counts of those pixels that vary most over the scan, "raw" the counts as they are, "sqrt" their root
    (equal shot noise everywhere), "log" their logarithm, "cepstrum" the cepstrum where it varies most, "angular" and
    "angular_cepstrum" the rotation-invariant angular correlations of pattern or cepstrum, for grains in any orientation.
    ``scale = "equalize"`` divides counts of "std" by the root of their mean, so that shot noise is equal in all; of a
    cepstrum the roots of its values' shares are taken, which tilt and thickness change little.
    """

    kind: Annotated[
        str,
        Doc(
            "std: counts of the pixels that vary most; raw, sqrt, log: all counts, their roots, their logarithms; "
            "cepstrum: where it varies most; angular, angular_cepstrum: rotation-invariant correlations of either"
        ),
    ] = "std"
    inner: Annotated[
        float | None,
        AtLeast(0),
        Doc("only what lies outside this radius counts; auto: the direct beam's", "`units`"),
    ] = None
    outer: Annotated[
        float | None,
        Positive(),
        Doc(
            "... and inside this one; auto: the edge, for angular kinds as far as most of what varies reaches",
            "`units`",
        ),
    ] = None
    units: Annotated[
        Literal["px", "calibrated"],
        Doc("of inner and outer: px of the prepared pattern or of the transform, or 1/Å and Å"),
    ] = "px"
    fraction: Annotated[
        float, Positive(), AtMost(1), Doc("share of the pixels that std and cepstrum take")
    ] = 0.3
    scale: Annotated[
        Literal["equalize", "none"], Doc("make features comparable, or leave them as they are")
    ] = "equalize"

    def __post_init__(self) -> None:
        """Raise InputError for an empty ring."""
        if self.inner is not None and self.outer is not None and self.inner >= self.outer:
            raise InputError(
                f"features.inner {self.inner:g} must be smaller than features.outer {self.outer:g}"
            )


@dataclass(frozen=True)
class Cepstrum:
    """The cepstrum (EWPC): transform of the windowed logarithm."""

    shape: Annotated[Literal["gaussian", "hann"], Doc("kind of the window")] = "gaussian"
    width: Annotated[
        float | None,
        Positive(),
        Doc(
            "standard deviation of the Gaussian, auto: 0.4 of the covered radius; radius of Hann's, auto: the covered radius",
            "px",
        ),
    ] = None
    offset: Annotated[
        float | None,
        AtLeast(0),
        Doc("added before the logarithm; auto: one count", "mean intensity"),
    ] = None
    padding: Annotated[int, AtLeast(1), Doc("size of the transform in sizes of the pattern")] = 1
    flatten: Annotated[bool, Doc("divide every ring by its mean first")] = False


@dataclass(frozen=True)
class Embed:
    """From feature vectors to a few numbers: PCA, UMAP of its scores, codes of an autoencoder."""

    n_components: Annotated[int, AtLeast(1), Doc("principal components")] = 10
    umap: Annotated[bool, Doc("embed the scores by UMAP")] = True
    umap_components: Annotated[int, AtLeast(1), Doc("dimensions of UMAP")] = 3
    n_neighbors: Annotated[
        int, AtLeast(2), Doc("neighbors that UMAP keeps together", "positions")
    ] = 15
    min_dist: Annotated[
        float, Doc("how close UMAP lets positions come", "distance in the embedding")
    ] = 0.0
    densmap: Annotated[bool, Doc("UMAP keeps densities")] = False
    max_fit: Annotated[
        int, AtLeast(100), Doc("UMAP is fitted to at most so many positions", "positions")
    ] = 10_000
    codes: Annotated[
        Literal["none", "ae", "vae"],
        Doc(
            "codes of an autoencoder of the feature vectors, or of a variational one, of size n_components"
        ),
    ] = "none"
    keep_features: Annotated[
        bool, Doc("write the feature vectors, to cluster without any embedding")
    ] = False


@dataclass(frozen=True)
class Domains:
    """The domain map: how many domains there are, and by which features they are told, is found."""

    kinds: Annotated[
        tuple[str, ...],
        NotEmpty(),
        Doc(
            "kinds of features that are tried; those of the section features, and sums: electrons in boxes as wide as a disk"
        ),
    ] = ("sums", "angular")


@dataclass(frozen=True)
class Cluster:
    """Divisive clustering: the scan is split, then every cluster, level by level."""

    space: Annotated[
        Literal["pca", "umap", "codes", "features"], Doc("what is clustered; see the section embed")
    ] = "pca"
    methods: Annotated[
        tuple[str, ...], NotEmpty(), Doc("clusterer of every level: kmeans, gmm or hdbscan")
    ] = (
        "kmeans",
        "kmeans",
        "kmeans",
    )
    k: Annotated[
        int | None, AtLeast(1), Doc("clusters of the first level; auto: chosen up to k_max")
    ] = None
    k_max: Annotated[int, AtLeast(2), Doc("most clusters that a split is tried with")] = 6
    restarts: Annotated[
        int, AtLeast(1), Doc("starts of kmeans and gmm, of which the best counts")
    ] = 10
    min_size: Annotated[int, AtLeast(2), Doc("smaller clusters are not split", "positions")] = 20
    min_cluster_size: Annotated[
        int | None,
        AtLeast(2),
        Doc("smallest cluster of hdbscan; auto: 1 %, at least 5", "positions"),
    ] = None
    min_samples: Annotated[
        int | None,
        AtLeast(1),
        Doc("neighbors that hdbscan takes density from; auto: min_cluster_size", "positions"),
    ] = None
    join_outliers: Annotated[
        Literal["none", "clear", "all"],
        Doc("outliers of hdbscan that the nearest cluster gets; clear: not those between clusters"),
    ] = "none"
    drop_outliers: Annotated[
        float, AtLeast(0), AtMost(0.5), Doc("share of positions that are set aside first")
    ] = 0.0
    compare: Annotated[
        str,
        Doc("split level 1 by this clusterer too, and say where the two disagree; or none"),
    ] = "none"
    reference: Annotated[
        int | None,
        AtLeast(0),
        Doc(
            "cluster that strain and rotation of the others refer to; auto: the largest crystalline one of each level"
        ),
    ] = None


@dataclass(frozen=True)
class Strain:
    """Strain relative to a reference: g1 and g2, a crystal, the median of a region or of a cluster, or that of the scan."""

    enabled: Annotated[bool, Doc("measure strain in analyze")] = True
    g1: Annotated[tuple[float, float] | None, Doc("reference vector (y, x); with g2", "px")] = None
    g2: Annotated[tuple[float, float] | None, Doc("reference vector (y, x); with g1", "px")] = None
    cif: Annotated[
        str | tuple[str, ...] | None,
        Doc(
            "file of the crystal that is the reference, or of several; needs the detector's calibration"
        ),
    ] = None
    zone: Annotated[
        tuple[int, int, int] | tuple[tuple[int, int, int], ...],
        Doc("direction [u, v, w] of that crystal along the beam, or one of each"),
    ] = (0, 0, 1)
    region: Annotated[
        Rectangle | None, Doc("y0, y1, x0, x1: the reference is the median there", "positions")
    ] = None
    cluster: Annotated[int | None, Doc("cluster of level 1: the reference is its median")] = None
    probe: Annotated[
        str | None,
        Doc(
            "file of the probe that all disks look like: a picture, or a scan of vacuum; auto: learned from the scan"
        ),
    ] = None
    probe_region: Annotated[
        Rectangle | None,
        Doc(
            "y0, y1, x0, x1: the probe is the mean direct beam there, such as in vacuum",
            "positions",
        ),
    ] = None
    further: Annotated[
        tuple[str, ...], Doc("further ways by name: cepstrum, which needs no model of disks")
    ] = ("cepstrum",)
    bases: Annotated[
        int, AtLeast(0), Doc("most base lattices that are learned from all fits; 0: none")
    ] = 64
    mixing: Annotated[bool, Doc("fit positions near boundaries as sums of base lattices")] = True
    bin: Annotated[
        int,
        AtLeast(1),
        Doc("neighbors along each side that are summed before the fit", "positions"),
    ] = 1

    def __post_init__(self) -> None:
        """Raise InputError unless there is one reference, and a lattice."""
        if self.probe is not None and self.probe_region is not None:
            raise InputError("strain.probe and strain.probe_region exclude each other")
        if (self.g1 is None) != (self.g2 is None):
            raise InputError("strain.g1 and strain.g2 must be given together")
        if len(self.references) > 1:
            raise InputError(
                "strain.g1 and g2, strain.cif, strain.region and strain.cluster exclude each other"
            )
        _ = self.crystals  # as many zones as files
        if self.g1 is not None and self.g2 is not None:
            (a, b), (c, d) = self.g1, self.g2
            if abs(a * d - b * c) < PARALLEL * ((a * a + b * b) * (c * c + d * d)) ** 0.5:
                raise InputError(
                    f"strain.g1 {self.g1} and g2 {self.g2} px span no lattice: "
                    "they are zero or nearly parallel"
                )

    @property
    def crystals(self) -> list[tuple[str, tuple[int, int, int]]]:
        """File and zone of every crystal that is given."""
        files = (self.cif,) if isinstance(self.cif, str) else self.cif or ()
        zones: Any = (self.zone,) if isinstance(self.zone[0], int) else self.zone
        zones = zones * len(files) if len(zones) == 1 else zones
        if files and len(zones) != len(files):
            raise InputError(f"strain.zone: {len(zones)} directions for {len(files)} crystals")
        return list(zip(files, zones, strict=False))

    @property
    def references(self) -> list[Any]:
        """What is given of the ways to say a reference; none is the median of the scan."""
        ways = (self.g1, self.cif, self.region, self.cluster)
        return [way for way in ways if way is not None]


@dataclass(frozen=True)
class Latent:
    """Autoencoders of every cluster of a level: codes, K-means of them, anomalies."""

    enabled: Annotated[bool, Doc("train them in analyze")] = False
    models: Annotated[
        tuple[Literal["ae", "vae"], ...],
        NotEmpty(),
        Doc("which: autoencoder, variational autoencoder"),
    ] = ("ae", "vae")
    level: Annotated[int, AtLeast(1), Doc("level of the clusters")] = 1
    hidden: Annotated[
        tuple[Annotated[int, AtLeast(1)], ...], NotEmpty(), Doc("sizes of the hidden layers")
    ] = (512,)
    latent: Annotated[int, AtLeast(1), Doc("numbers in a code")] = 8
    epochs: Annotated[int, AtLeast(1), Doc("most passes over the data")] = 40
    batch_size: Annotated[int, AtLeast(1), Doc("positions in a step", "positions")] = 256
    learning_rate: Annotated[float, Positive(), Doc("largest step of the optimizer")] = 1e-3
    kl_weight: Annotated[
        float, AtLeast(0), Doc("weight of the divergence from the standard normal, of vae")
    ] = 1e-3
    validation: Annotated[
        float, AtLeast(0), AtMost(0.5), Doc("share of a cluster that is held out, in blocks")
    ] = 0.15
    patience: Annotated[
        int | None,
        AtLeast(1),
        Doc(
            "training ends after so many epochs without a smaller loss there; auto: never", "epochs"
        ),
    ] = 10
    k: Annotated[int, AtLeast(2), Doc("K-means clusters of the codes")] = 4
    min_size: Annotated[int, AtLeast(10), Doc("smaller clusters are left out", "positions")] = 100


@dataclass(frozen=True)
class Ccstae:
    """The published CC-ST-AE, trained on the scan by `train ccstae`."""

    bases: Annotated[int, AtLeast(1), Doc("base patterns that are learned")] = 1
    epochs: Annotated[int, AtLeast(1), Doc("passes over the scan")] = 15
    batch_size: Annotated[int, AtLeast(1), Doc("positions in a step", "positions")] = 32
    learning_rate: Annotated[float, Positive(), Doc("largest step of the optimizer")] = 1e-3


@dataclass(frozen=True)
class Recipe:
    """Every stage's parameters; `Recipe()` is the default recipe.

    Attributes:
        seed: Of everything that is drawn at random.
        input: How the file is read.
        calibration: Scales and axes of detector and scan.
        prepare: Bad pixels, direct beam, normalization.
        detector: What counts are.
        images: Radii of the virtual detectors.
        features: What of a pattern the clustering sees.
        cepstrum: Which cepstrum.
        embed: From feature vectors to a few numbers.
        domains: The domain map.
        cluster: Divisive clustering.
        strain: Relative to what, and in which ways.
        latent: Autoencoders of the clusters.
        ccstae: The published network.

    Raises:
        InputError: A space that clustering shall use is not made.

    Example:
        >>> Recipe(cluster=Cluster(k=3)).cluster.k
        3
    """

    seed: Annotated[int, Doc("seed of everything that is drawn at random")] = 0
    input: Input = field(default_factory=Input)
    calibration: Calibration = field(default_factory=Calibration)
    prepare: Prepare = field(default_factory=Prepare)
    detector: Detector = field(default_factory=Detector)
    images: Images = field(default_factory=Images)
    features: Features = field(default_factory=Features)
    cepstrum: Cepstrum = field(default_factory=Cepstrum)
    embed: Embed = field(default_factory=Embed)
    domains: Domains = field(default_factory=Domains)
    cluster: Cluster = field(default_factory=Cluster)
    strain: Strain = field(default_factory=Strain)
    latent: Latent = field(default_factory=Latent)
    ccstae: Ccstae = field(default_factory=Ccstae)

    def reading(self) -> dict[str, Any]:
        """What `open_dataset` takes beside the path."""
        options = asdict(self.input)
        options.pop("invalid_patterns")
        return options | self.calibration.given()

    def __post_init__(self) -> None:
        """Raise InputError for a space that is not made."""
        made = {
            "pca": True,
            "umap": self.embed.umap,
            "codes": self.embed.codes != "none",
            "features": self.embed.keep_features,
        }
        if not made[self.cluster.space]:
            needs = {
                "umap": "embed.umap = true",
                "codes": "embed.codes = 'ae' or 'vae'",
                "features": "embed.keep_features = true",
            }
            space = self.cluster.space
            raise InputError(f"cluster.space = '{space}' needs {needs[space]}")
