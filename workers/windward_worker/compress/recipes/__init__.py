"""The registry of recipes, by the name that the command line knows."""

from windward_worker.compress.recipe import Recipe
from windward_worker.compress.recipes.awq import Awq
from windward_worker.compress.recipes.gptq import Gptq
from windward_worker.compress.recipes.mixed import Mixed
from windward_worker.compress.recipes.smoothquant import SmoothQuant

__all__ = ["RECIPES"]

RECIPES: dict[str, Recipe] = {each.name: each for each in (Recipe(), Gptq(), Awq(), SmoothQuant(), Mixed())}
