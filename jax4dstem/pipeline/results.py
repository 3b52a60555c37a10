"""The answers of a run, typed, in memory or opened from a results directory."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jax4dstem.beam import BeamPositions, Survey, VirtualImages
from jax4dstem.coordinates import Calibration
from jax4dstem.domains import (
    DomainCrystals,
    DomainMap,
    Domains,
    DomainTables,
    Embedding,
    Features,
    Scores,
)
from jax4dstem.errors import InputError
from jax4dstem.fields import Entry, Result, Tree, merge, tree_to_xarray
from jax4dstem.health import Health
from jax4dstem.io.results import read_group
from jax4dstem.io.schema import SCHEMA, upgrade
from jax4dstem.regions import RegionCodes
from jax4dstem.strain import CCSTAEStrain, NoStrain, StrainAnswers, StrainExamples

if TYPE_CHECKING:
    import xarray

RESULTS = "results.h5"
KINDS = {
    "survey": (Survey,),
    "beam": (BeamPositions,),
    "images": (VirtualImages,),
    "domain_map": (DomainMap,),
    "features": (Features,),
    "scores": (Scores,),
    "embedding": (Embedding,),
    "domains": (Domains,),
    "clusters": (DomainTables,),
    "strain": (StrainAnswers, NoStrain),
    "crystals": (DomainCrystals,),
    "examples": (StrainExamples,),
    "latent": (RegionCodes,),
    "ccstae": (CCSTAEStrain,),
    "health": (Health,),
}


@dataclass(frozen=True)
class Results:
    """The answers of a run; None for those that it has not.

    Attributes:
        survey: Validity, dose, detector.
        beam: Centers of the direct beam.
        images: Virtual images.
        domain_map: The domain of every position.
        features: What feature vectors are made of.
        scores: Principal components and scores.
        embedding: UMAP, codes.
        domains: Clusters at every level.
        clusters: What each cluster is.
        strain: Strain, in all ways, or why there is none.
        crystals: The lattice of every domain.
        examples: Patterns to look at, with the lattices fitted to them.
        latent: Learned representations of every region.
        ccstae: Strain by the published network.
        health: What was found, and what is doubtful.
        about: Provenance: recipe, input, versions, calibration.
        stored: Fields of the file the answers were read from; of an older version's file there may be more than answers.

    Example:
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_in_memory
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> results = analyze_in_memory(scan, stages=STAGES[:1])
        >>> results.survey.dose.shape, results.domains, sorted(results.fields())
        ((3, 4), None, ['beam', 'detector', 'images', 'invalid'])
    """

    survey: Survey | None = None
    beam: BeamPositions | None = None
    images: VirtualImages | None = None
    domain_map: DomainMap | None = None
    features: Features | None = None
    scores: Scores | None = None
    embedding: Embedding | None = None
    domains: Domains | None = None
    clusters: DomainTables | None = None
    strain: StrainAnswers | NoStrain | None = None
    crystals: DomainCrystals | None = None
    examples: StrainExamples | None = None
    latent: RegionCodes | None = None
    ccstae: CCSTAEStrain | None = None
    health: Health | None = None
    about: dict[str, Any] = field(default_factory=dict)
    stored: Tree | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        """The input, and which answers there are, in a line each."""
        there = {name: getattr(self, name) for name in KINDS}
        lines = [
            f"  {name:<10}  {type(item).__name__}"
            for name, item in there.items()
            if item is not None
        ]
        path = Path(str(self.about.get("input_path", "memory"))).name
        if self.health is not None:
            lines += [f"  found       {line}" for line in self.health.found]
            lines.append(f"  doubts      {len(self.health.doubts)}, in health.doubts")
        return "\n".join([f"<Results of {path}", *lines]) + ">"

    @classmethod
    def of(cls, answers: Mapping[str, Result], about: dict[str, Any]) -> "Results":
        """From answers by the name of their stage."""
        known: dict[str, Any] = {
            name: item for name, item in answers.items() if isinstance(item, KINDS[name])
        }
        return cls(**known, about=about)

    @property
    def calibration(self) -> Calibration:
        """Of the scan."""
        known: dict[str, Any] = {}
        for part in fields(Calibration):
            value = np.asarray(self.about.get(part.name, np.nan), float)
            if np.isfinite(value).all():
                number = bool(value) if isinstance(part.default, bool) else value.tolist()
                known[part.name] = tuple(number) if isinstance(number, list) else number
        return Calibration(**known)

    def left_out(self, shape: tuple[int, ...]) -> np.ndarray:
        """Positions that nothing counts: their pattern is masked, missing, blank or damaged.

        Args:
            shape: Of the scan.

        Returns:
            Boolean; False everywhere where the results do not tell.
        """
        return np.zeros(shape, bool) if self.survey is None else ~self.survey.valid

    def fields(self) -> Tree:
        """All fields, as in the results file."""
        if self.stored is not None:
            return self.stored
        tree: Tree = {}
        for name in KINDS:
            answer = getattr(self, name)
            if answer is not None:
                merge(tree, answer.fields())
        return tree

    @staticmethod
    def layout() -> dict[str, Entry]:
        """All that a results file can hold, by path: axes, units and meaning."""
        return {
            path: about
            for kinds in KINDS.values()
            for kind in kinds
            for path, about in kind.layout().items()
        }

    def to_xarray(self) -> "xarray.DataTree":
        """All fields as an xarray tree, a node per group; its attributes are the provenance."""
        return tree_to_xarray(self.fields(), self.calibration, self.about)


def open_results(out: str | Path) -> Results:
    """Open a results directory (or file): the same typed answers that the run had.

    Args:
        out: The directory given to `analyze`, or the path of its results.h5.

    Returns:
        The answers; ``.to_xarray()`` gives all fields with named dimensions and coordinates.

    Raises:
        InputError: There are no results, or they are of a later version than this one knows.

    Example:
        >>> import tempfile
        >>> from jax4dstem import Dataset
        >>> from jax4dstem.pipeline import STAGES, analyze_dataset
        >>> scan = Dataset.from_array(np.random.default_rng(0).poisson(9.0, (3, 4, 16, 16)))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     path = analyze_dataset(scan, out, say=lambda line: None, stages=STAGES[:1])
        ...     open_results(out).survey.dose.shape
        (3, 4)
    """
    path = Path(out)
    path = path / RESULTS if path.is_dir() else path
    if not path.exists():
        raise InputError(f"there are no results at {out}: expected {path.name} written by analyze")
    tree, about = read_results(path)
    stored = json.loads(about.get("stages", "{}"))
    answers: dict[str, Any] = {}
    for name, kinds in KINDS.items():
        wanted = [
            k for k in kinds if not stored or stored.get(name, {}).get("result") == k.__name__
        ]
        for kind in wanted:
            try:
                answers[name] = kind.from_fields(tree)
                break
            except InputError:
                if stored:
                    raise
    return Results(**answers, about=about, stored=tree)


def read_results(path: Path) -> tuple[Tree, dict[str, Any]]:
    """Fields and attributes of a results file of this or an earlier schema.

    Raises:
        InputError: The file cannot be read, or is of a later schema.
    """
    tree, about = read_group(path)
    schema = int(about.get("schema", 1))
    if schema > SCHEMA:
        raise InputError(
            f"{path} has schema {schema}, this version of jax4dstem knows {SCHEMA}: update jax4dstem"
        )
    return (upgrade(tree, about) if schema < SCHEMA else tree), about
