"""Recipe (TOML) -> stages -> results file, with provenance and resume."""

from jax4dstem.pipeline.recipe import Recipe, dump_recipe, load_recipe
from jax4dstem.pipeline.run import RESULTS, analyze, analyze_dataset, analyze_in_memory
from jax4dstem.pipeline.stages import DOMAIN_STAGES, STRAIN_STAGES

__all__ = [
    "DOMAIN_STAGES",
    "RESULTS",
    "STRAIN_STAGES",
    "Recipe",
    "analyze",
    "analyze_dataset",
    "analyze_in_memory",
    "dump_recipe",
    "load_recipe",
]
