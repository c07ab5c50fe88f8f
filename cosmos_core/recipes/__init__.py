"""Recipes: found by name, loaded through their layers, shown."""

from typing import TYPE_CHECKING

from cosmos_core.recipes.find import RecipeFile, find_recipe, list_recipes
from cosmos_core.recipes.peek import peek
from cosmos_core.recipes.written import literal, toml_text

__all__ = ["RecipeFile", "find_recipe", "list_recipes", "literal", "load", "peek", "resolve", "toml_text"]

if TYPE_CHECKING:
    from cosmos_core.recipes.loading import load, resolve


def __getattr__(name: str) -> object:
    """`load` and `resolve` on demand: listing recipes needs no TOML writer and no converter."""
    if name in ("load", "resolve"):
        from cosmos_core.recipes import loading as module

        return getattr(module, name)
    raise AttributeError(name)
