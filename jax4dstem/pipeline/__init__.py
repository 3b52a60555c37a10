"""Recipe (TOML) -> stages -> results file, with provenance and resume."""

from jax4dstem.pipeline.recipe import Recipe, dump_recipe, load_recipe
from jax4dstem.pipeline.results import RESULTS, Results, open_results
from jax4dstem.pipeline.run import analyze, analyze_dataset, analyze_in_memory
from jax4dstem.pipeline.stages import DOMAIN_STAGES, STAGES, STRAIN_STAGES, Stage

__all__ = [
    "DOMAIN_STAGES",
    "RESULTS",
    "STAGES",
    "STRAIN_STAGES",
    "Recipe",
    "Results",
    "Stage",
    "analyze",
    "analyze_dataset",
    "analyze_in_memory",
    "dump_recipe",
    "load_recipe",
    "open_results",
]
