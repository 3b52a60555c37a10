"""The stages of `analyze`, in order."""

from collections.abc import Callable
from dataclasses import dataclass

from jax4dstem.dataset import Dataset
from jax4dstem.pipeline.alignment import align
from jax4dstem.pipeline.clusters import cluster
from jax4dstem.pipeline.feature_space import embed, features
from jax4dstem.pipeline.latent import latent
from jax4dstem.pipeline.sections import Recipe
from jax4dstem.pipeline.strain import strain, strain_if_crystalline
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
    Stage("strain", strain_if_crystalline, ("strain",)),
    Stage("latent", latent, ("latent",)),
)

# `jax4dstem strain`: the first two are those of `analyze` and are shared with it.
STRAIN_STAGES = (*STAGES[:2], Stage("strain", strain, ("seed", "strain")))
