"""Recipes: found by name, loaded through their layers, shown."""

from typing import TYPE_CHECKING

from cosmos_core.recipes.find import RecipeFile, find_recipe, list_recipes
from cosmos_core.recipes.peek import peek

__all__ = ["RecipeFile", "find_recipe", "list_recipes", "load", "peek", "resolve"]

if TYPE_CHECKING:
    from cosmos_core.recipes.loading import load, resolve


def __getattr__(name: str) -> object:
    """`load` and `resolve` on demand: listing recipes needs no TOML writer and no converter."""
    if name in ("load", "resolve"):
        from cosmos_core.recipes import loading as module

        return getattr(module, name)
    raise AttributeError(name)
