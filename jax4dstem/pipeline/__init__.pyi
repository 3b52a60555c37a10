# The public names of the room: `__init__.py` reads them here and loads each when it is used.
from .recipe import RecipeKey, dump_recipe, load_recipe, recipe_keys
from .run import RESULTS, analyze, analyze_dataset, analyze_in_memory
from .sections import Recipe
from .stages import DOMAIN_STAGES, STRAIN_STAGES

__all__ = [
    "DOMAIN_STAGES",
    "RESULTS",
    "STRAIN_STAGES",
    "Recipe",
    "RecipeKey",
    "analyze",
    "analyze_dataset",
    "analyze_in_memory",
    "dump_recipe",
    "load_recipe",
    "recipe_keys",
]
