"""The stages of `analyze`, in order."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from jax4dstem.dataset import Dataset
from jax4dstem.pipeline.alignment import align
from jax4dstem.pipeline.clusters import cluster
from jax4dstem.pipeline.feature_space import embed, features
from jax4dstem.pipeline.latent import latent
from jax4dstem.pipeline.recipe import Recipe
from jax4dstem.pipeline.strain import strain
from jax4dstem.pipeline.survey import survey
from jax4dstem.typing import Tree


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: Its name on screen and of its file.
        run: ``run(dataset, done, recipe)`` with the merged results of earlier stages; returns groups
            of the results file.
        sections: Recipe sections it reads; those of earlier stages are implied.
    """

    name: str
    run: Callable[[Dataset, Tree, Recipe], Tree]
    sections: tuple[str, ...]


def _typed(done: Tree) -> dict[str, Any]:
    """What the stage `strain` needs of earlier results."""
    found: dict[str, Any] = {
        "survey": SimpleNamespace(bad_pixels=done["detector"]["bad_pixels"].data.astype(bool)),
        "beam": SimpleNamespace(
            center=done["center"].data, radius=float(done["beam"]["radius"].data)
        ),
    }
    if "labels" in done:
        found["domains"] = SimpleNamespace(labels={"level_1": done["labels"]["level_1"].data})
    return found


def _strain(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    return strain(dataset, _typed(done), recipe).fields()


def _strain_in_analysis(dataset: Dataset, done: Tree, recipe: Recipe) -> Tree:
    return _strain(dataset, done, recipe) if recipe.strain.enabled else {}


# From the file to clusters; the later stages of `analyze` look into what these found.
DOMAIN_STAGES = (
    Stage("survey", survey, ("input", "prepare")),
    Stage("align", align, ("detectors",)),
    Stage("features", features, ("features", "cepstrum")),
    Stage("embed", embed, ("seed", "embed")),
    Stage("cluster", cluster, ("cluster",)),
)
STAGES = (
    *DOMAIN_STAGES,
    Stage("strain", _strain_in_analysis, ("strain",)),
    Stage("latent", latent, ("latent",)),
)

# `jax4dstem strain`: the first two are those of `analyze` and are shared with it.
STRAIN_STAGES = (*STAGES[:2], Stage("strain", _strain, ("seed", "strain")))
