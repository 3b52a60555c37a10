"""Recipe (TOML) -> stages -> results file, with provenance and resume."""

from jax4dstem.pipeline.recipe import Recipe, dump_recipe, load_recipe
from jax4dstem.pipeline.run import RESULTS, analyze, analyze_dataset

__all__ = ["RESULTS", "Recipe", "analyze", "analyze_dataset", "dump_recipe", "load_recipe"]
