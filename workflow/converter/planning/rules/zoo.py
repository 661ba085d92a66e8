"""What rules/zoo.smk asks: the recipes of configs/zoo.yaml."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from converter.planning.code_version import code_version
from converter.planning.rules.base import Planned

__all__ = ["ZooInputs"]

# The step behind each kind of recipe in configs/zoo.yaml.
_RECIPE_STEPS = {
    "application": "zoo_keras",
    "recurrent": "zoo_keras",
    "recurrent_torch": "zoo_recurrent_torch",
    "torchvision": "zoo_torchvision",
    "tf1": "zoo_tf1",
}


class ZooInputs(Planned):
    """wildcards.model: the name of a recipe."""

    def recipe_options(self, wildcards: Any) -> str:
        zoo = self.planner.config.zoo
        recipe = zoo["recipes"][wildcards.model]
        options = [f"--recipe={recipe['recipe']}", f"--name={wildcards.model}", f"--weights={zoo['weights']}"]
        shape = recipe.get("parameters", {}).get("input_shape")
        options += [f"--network={recipe['network']}"] if "network" in recipe else []
        return shlex.join([*options, *([f"--shape={shape}"] if shape and "network" not in recipe else [])])

    def savedmodel_recipes(self) -> str:
        """A pattern for the names of recipes that write a directory."""
        recipes = self.planner.config.zoo["recipes"]
        return "|".join(re.escape(name) for name, recipe in recipes.items() if recipe["file"] == f"zoo/{name}")

    def recipe_version(self, file: str) -> str:
        recipes = self.planner.config.zoo["recipes"]
        recipe = next(recipe for recipe in recipes.values() if recipe["file"] == file)
        code = code_version(_RECIPE_STEPS[recipe["recipe"]])
        return json.dumps([recipe, self.planner.config.zoo["weights"], code], sort_keys=True)
