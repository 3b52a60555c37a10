"""The stages: what each needs, gives and reads of the recipe. A stage calls an answer; it computes nothing itself."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from jax4dstem.beam import (
    BeamPositions,
    Prepared,
    Survey,
    VirtualImages,
    align_scan,
    measure_images,
    prepare_patterns,
    survey_scan,
)
from jax4dstem.dataset import Dataset
from jax4dstem.domains import (
    CLUSTERERS,
    FEATURE_KINDS,
    CepstralTransform,
    DomainCrystals,
    DomainMap,
    Domains,
    DomainTables,
    Embedding,
    FeatureKind,
    Features,
    Scores,
    Splitter,
    choose_features,
    compute_vectors,
    describe_map,
    embed_scores,
    encode_features,
    feature_vectors,
    find_domains,
    map_domains,
    measure_crystals,
    score_features,
)
from jax4dstem.errors import InputError
from jax4dstem.fields import Result
from jax4dstem.health import Evidence, Health, judge
from jax4dstem.pipeline.given import (
    given_center,
    given_detector,
    given_scan_mask,
    scan_condition,
)
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.pipeline.strain import known_crystals, strain, strain_ways
from jax4dstem.regions import RegionCodes, RegionTraining, encode_regions
from jax4dstem.registry import create
from jax4dstem.strain import (
    CCSTAEStrain,
    NoStrain,
    StrainAnswers,
    StrainExamples,
    strain_examples,
    train_ccstae,
)
from jax4dstem.train import Training

Done = Mapping[str, Any]  # results of finished stages by name


def _nothing(recipe: Recipe) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Its name on screen, in the results, and in what others need.
        answer: ``answer(scan, done, recipe)`` with the results of the stages it needs.
        gives: What it returns, one of these.
        needs: Names of the stages whose results it uses.
        reads: Recipe sections and keys that it uses; those of the stages it needs are implied.
        also_needs: Further stages that a recipe makes necessary.

    Example:
        >>> STAGES[0].name, STAGES[0].gives[0].__name__, STAGES[1].all_needs(Recipe())
        ('survey', 'Survey', ('survey',))
    """

    name: str
    answer: Callable[[Dataset, Done, Recipe], Result]
    gives: tuple[type[Result], ...]
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    also_needs: Callable[[Recipe], tuple[str, ...]] = _nothing

    def all_needs(self, recipe: Recipe) -> tuple[str, ...]:
        """Names of all stages whose results it uses with this recipe."""
        return *self.needs, *self.also_needs(recipe)


@dataclass(frozen=True)
class Skipped(Result):
    """What a stage gives that the recipe leaves out."""


def survey(scan: Dataset, done: Done, recipe: Recipe) -> Survey:
    """Validity, dose and detector statistics; a condition on a virtual image is looked at here, before all else."""
    found = survey_scan(
        scan,
        exclude_invalid=recipe.input.invalid_patterns == "exclude",
        find_bad=recipe.prepare.repair_pixels,
        contrast=recipe.prepare.contrast,
        detector=given_detector(recipe, scan),
        scan_mask=given_scan_mask(recipe, scan),
    )
    condition = scan_condition(recipe)
    if condition is None:
        return found
    seen: dict[str, Any] = {"survey": found}
    seen["beam"] = beam(scan, seen, recipe)
    masked = condition.holds(found, images(scan, seen, recipe))
    if (masked | ~found.valid).all():
        raise InputError(f"prepare.scan_mask {recipe.prepare.scan_mask!r} leaves no position")
    return replace(found, masked=masked)


def beam(scan: Dataset, done: Done, recipe: Recipe) -> BeamPositions:
    """Centers of the direct beam."""
    options = recipe.prepare
    return align_scan(
        scan,
        done["survey"],
        search=options.search,
        descan_order=options.descan_order,
        center=given_center(recipe),
        align=options.align,
    )


def images(scan: Dataset, done: Done, recipe: Recipe) -> VirtualImages:
    """Virtual images."""
    return measure_images(scan, done["survey"], done["beam"], **asdict(recipe.images))


def domain_map(scan: Dataset, done: Done, recipe: Recipe) -> DomainMap:
    """The domain of every position."""
    return map_domains(prepared(scan, done, recipe), domain_kinds(recipe), seed=recipe.seed)


def features(scan: Dataset, done: Done, recipe: Recipe) -> Features:
    """What feature vectors are made of."""
    return choose_features(prepared(scan, done, recipe), feature_kind(recipe))


def scores(scan: Dataset, done: Done, recipe: Recipe) -> Scores:
    """PCA scores of the feature vectors."""
    return score_features(
        vectors(scan, done, recipe), done["survey"].valid, recipe.embed.n_components
    )


def embedding(scan: Dataset, done: Done, recipe: Recipe) -> Embedding:
    """UMAP of the scores, codes of the feature vectors, or the vectors themselves."""
    options, found = recipe.embed, {}
    if options.umap:
        found["umap"] = embed_scores(
            done["scores"].scores,
            n_components=options.umap_components,
            n_neighbors=options.n_neighbors,
            min_dist=options.min_dist,
            densmap=options.densmap,
            max_fit=options.max_fit,
            seed=recipe.seed,
        )
    if options.codes != "none" or options.keep_features:
        values = compute_vectors(vectors(scan, done, recipe), done["survey"].valid)
        if options.keep_features:
            found["features"] = values
        if options.codes != "none":
            found["codes"] = encode_features(
                values, options.codes, size=options.n_components, seed=recipe.seed
            )
    return Embedding(**found)


def domains(scan: Dataset, done: Done, recipe: Recipe) -> Domains:
    """Clusters at every level."""
    options = recipe.cluster
    points = done["scores"].scores
    if options.space != "pca":
        points = getattr(done["embedding"], options.space)
    if points is None:
        raise InputError(f"there is no {options.space} embedding of so few positions")
    splitters = [splitter(name, recipe, level) for level, name in enumerate(options.methods, 1)]
    found = find_domains(
        points,
        splitters,
        min_size=options.min_size,
        outliers=options.drop_outliers,
        seed=recipe.seed,
    )
    if options.compare == "none":
        return found
    other = splitter(options.compare, recipe, 1, k=len(found.ids(1)))
    return found.compared(points, other, seed=recipe.seed)


def clusters(scan: Dataset, done: Done, recipe: Recipe) -> DomainTables:
    """What each domain and each cluster is."""
    return describe_map(
        done["domain_map"],
        prepared(scan, done, recipe),
        done["images"].annular_dark_field,
        cepstral_transform(recipe),
        levels=done["domains"],
        reference=recipe.cluster.reference,
    )


def crystals(scan: Dataset, done: Done, recipe: Recipe) -> DomainCrystals | Skipped:
    """The lattice of every domain, where lattices were fitted."""
    if not isinstance(done["strain"], StrainAnswers):
        return Skipped()
    return measure_crystals(
        done["domain_map"],
        done["strain"].shown_lattices,
        pixel=scan.calibration.pixel_inv_angstrom,
        candidates=known_crystals(scan, recipe),
    )


def latent(scan: Dataset, done: Done, recipe: Recipe) -> RegionCodes | Skipped:
    """Autoencoders of every region."""
    options = recipe.latent
    if not options.enabled:
        return Skipped()
    levels = done["domains"].levels
    if options.level > len(levels):
        raise InputError(f"latent.level: there are no clusters of level {options.level}")
    names = {item.name for item in fields(RegionTraining)}
    training = RegionTraining(**{k: v for k, v in asdict(options).items() if k in names})
    regions = levels[options.level - 1]
    return encode_regions(vectors(scan, done, recipe), regions, training, seed=recipe.seed)


def prepared(scan: Dataset, done: Done, recipe: Recipe) -> Prepared:
    """The prepared patterns that a recipe asks for."""
    options = recipe.prepare
    return prepare_patterns(
        scan, done["survey"], done["beam"], normalize=options.normalize, bin=options.bin
    )


def vectors(scan: Dataset, done: Done, recipe: Recipe) -> Dataset:
    """The feature vectors that a recipe asks for."""
    return feature_vectors(prepared(scan, done, recipe), feature_kind(recipe), done["features"])


def feature_kind(recipe: Recipe) -> FeatureKind:
    """The kind of features that a recipe names."""
    options = asdict(recipe.features) | {"cepstrum": cepstral_transform(recipe)}
    return create(FEATURE_KINDS, recipe.features.kind, options)


def domain_kinds(recipe: Recipe) -> dict[str, FeatureKind]:
    """The kinds of features that domains are looked for by; radii of one of them would mean nothing to another."""
    options = {"cepstrum": cepstral_transform(recipe)}
    return {name: create(FEATURE_KINDS, name, options) for name in recipe.domains.kinds}


def cepstral_transform(recipe: Recipe) -> CepstralTransform:
    """The cepstrum that a recipe asks for."""
    return CepstralTransform(**asdict(recipe.cepstrum))


def splitter(name: str, recipe: Recipe, level: int, k: int | None = None) -> Splitter:
    """The clusterer of a name for one level; a fixed K holds for the first."""
    options = asdict(recipe.cluster)
    options["k"] = k or (recipe.cluster.k if level == 1 else None)
    return create(CLUSTERERS, name, options)


def check_kinds(recipe: Recipe) -> None:
    """Raise InputError for a kind of features, a clusterer or a way to strain that there is not."""
    feature_kind(recipe)
    domain_kinds(recipe)
    strain_ways(recipe)
    others = () if recipe.cluster.compare == "none" else (recipe.cluster.compare,)
    for name in (*recipe.cluster.methods, *others):
        splitter(name, recipe, 1)


def strain_in_analysis(scan: Dataset, done: Done, recipe: Recipe) -> Result:
    """Strain in `analyze`: can be left out, and data without a lattice are no error unless a reference is given."""
    if not recipe.strain.enabled:
        return Skipped()
    return strain(scan, done, recipe)


def examples_in_analysis(scan: Dataset, done: Done, recipe: Recipe) -> Result:
    """Patterns to look at; the one at a boundary is where the domain is least sure."""
    return _examples(scan, done, recipe, 1 - done["domain_map"].confidence)


def examples(scan: Dataset, done: Done, recipe: Recipe) -> Result:
    """Patterns to look at, where strain is all that is asked for."""
    return _examples(scan, done, recipe, None)


def _examples(scan: Dataset, done: Done, recipe: Recipe, mixed: np.ndarray | None) -> Result:
    found = done["strain"]
    if recipe.strain.bin > 1 or not isinstance(found, StrainAnswers):  # fits are of single patterns
        return Skipped()
    return strain_examples(done["survey"].electrons(scan), found, mixed)


def health(scan: Dataset, done: Done, recipe: Recipe) -> Health:
    """What was found, and what is doubtful."""
    return _judged(scan, done, done["domain_map"])


def health_of_strain(scan: Dataset, done: Done, recipe: Recipe) -> Health:
    """The same where strain is all that is asked for: domains of an earlier run may be of other settings."""
    return _judged(scan, done, None)


def _judged(scan: Dataset, done: Done, domains: DomainMap | None) -> Health:
    found = None if isinstance(done["strain"], Skipped) else done["strain"]
    return judge(
        Evidence(scan.calibration, done["survey"], done["beam"], domains, found, scan.doubts)
    )


def ccstae(scan: Dataset, done: Done, recipe: Recipe) -> CCSTAEStrain:
    """Strain by the published network, trained on the scan."""
    survey, options = done["survey"], recipe.ccstae
    return train_ccstae(
        survey.electrons(scan),
        done["beam"].center,
        done["beam"].radius,
        n_bases=options.bases,
        detector=survey.detector.of_electrons,
        training=Training(
            options.epochs, options.batch_size, options.learning_rate, seed=recipe.seed
        ),
        progress="training ccstae",
    )


def _needs_domains(recipe: Recipe) -> tuple[str, ...]:
    return ("domains",) if recipe.strain.cluster is not None else ()


SURVEY = Stage(
    "survey",
    survey,
    (Survey,),
    reads=("input", "detector", "prepare.repair_pixels", "prepare.contrast", "prepare.scan_mask"),
)
BEAM = Stage(
    "beam",
    beam,
    (BeamPositions,),
    ("survey",),
    ("prepare.search", "prepare.descan_order", "prepare.center", "prepare.align"),
)
_PREPARED = ("survey", "beam")
IMAGES = Stage("images", images, (VirtualImages,), _PREPARED, ("images", "calibration"))
STRAIN = Stage(
    "strain",
    strain,
    (StrainAnswers, NoStrain),
    _PREPARED,
    ("seed", "strain", "calibration"),
    _needs_domains,
)
# From the file to what the clusters are.
DOMAIN_STAGES = (
    SURVEY,
    BEAM,
    IMAGES,
    Stage(
        "domain_map",
        domain_map,
        (DomainMap,),
        _PREPARED,
        ("seed", "domains", "prepare.normalize", "prepare.bin", "cepstrum", "calibration"),
    ),
    Stage(
        "features",
        features,
        (Features,),
        _PREPARED,
        ("prepare.normalize", "prepare.bin", "features", "cepstrum", "calibration"),
    ),
    Stage("scores", scores, (Scores,), (*_PREPARED, "features"), ("embed.n_components",)),
    Stage(
        "embedding", embedding, (Embedding,), (*_PREPARED, "features", "scores"), ("seed", "embed")
    ),
    Stage("domains", domains, (Domains,), ("scores", "embedding"), ("seed", "cluster")),
    Stage(
        "clusters",
        clusters,
        (DomainTables,),
        (*_PREPARED, "images", "domain_map", "features", "domains"),
        ("cluster.reference",),
    ),
)
STAGES = (
    *DOMAIN_STAGES,
    Stage(
        "strain",
        strain_in_analysis,
        (StrainAnswers, NoStrain, Skipped),
        _PREPARED,
        ("seed", "strain", "calibration"),
        _needs_domains,
    ),
    Stage(
        "crystals",
        crystals,
        (DomainCrystals, Skipped),
        ("domain_map", "strain"),
        ("calibration",),
    ),
    Stage(
        "examples",
        examples_in_analysis,
        (StrainExamples, Skipped),
        (*_PREPARED, "domain_map", "strain"),
        ("strain.bin",),
    ),
    Stage(
        "latent",
        latent,
        (RegionCodes, Skipped),
        (*_PREPARED, "features", "domains"),
        ("seed", "latent"),
    ),
    Stage("health", health, (Health,), (*_PREPARED, "domain_map", "strain")),
)
STRAIN_STAGES = (
    SURVEY,
    BEAM,
    IMAGES,
    STRAIN,
    Stage("examples", examples, (StrainExamples, Skipped), (*_PREPARED, "strain"), ("strain.bin",)),
    Stage("health", health_of_strain, (Health,), (*_PREPARED, "strain")),
)
# `jax4dstem train ccstae`.
CCSTAE_STAGES = (
    SURVEY,
    BEAM,
    IMAGES,
    Stage("ccstae", ccstae, (CCSTAEStrain,), _PREPARED, ("seed", "ccstae", "calibration")),
)
