"""Recipe (TOML) -> stages -> results file, with provenance and resume."""

from jax4dstem.pipeline.recipe import Recipe, dump_recipe, load_recipe
from jax4dstem.pipeline.run import RESULTS, analyze, analyze_dataset
from jax4dstem.pipeline.stages import STRAIN_STAGES

__all__ = [
    "RESULTS",
    "STRAIN_STAGES",
    "Recipe",
    "analyze",
    "analyze_dataset",
    "dump_recipe",
    "load_recipe",
]
