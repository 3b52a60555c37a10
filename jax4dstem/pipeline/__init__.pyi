# The public names of the room: `__init__.py` reads them here and loads each when it is used.
from .compare import ResultsCompared, compare_results
from .presets import QUICK
from .recipe import RecipeKey, dump_recipe, load_recipe, recipe_keys
from .results import RESULTS, Results, open_results
from .run import analyze, analyze_dataset, analyze_in_memory
from .sections import Recipe
from .stages import CCSTAE_STAGES, DOMAIN_STAGES, STAGES, STRAIN_STAGES, Stage

__all__ = [
    "CCSTAE_STAGES",
    "DOMAIN_STAGES",
    "QUICK",
    "RESULTS",
    "STAGES",
    "STRAIN_STAGES",
    "Recipe",
    "RecipeKey",
    "Results",
    "ResultsCompared",
    "Stage",
    "analyze",
    "analyze_dataset",
    "analyze_in_memory",
    "compare_results",
    "dump_recipe",
    "load_recipe",
    "open_results",
    "recipe_keys",
]
