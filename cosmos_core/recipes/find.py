"""Recipes by name: entry points of the group `cosmos.recipes` name package folders that hold `*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import PathFinder
from os.path import isfile
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean, text_fault
from cosmos_core.plugin.entry_points import entry_points

__all__ = ["RecipeFile", "find_recipe", "list_recipes", "peek"]

GROUP = "cosmos.recipes"

DEEPEST = 16
"""Longest `extends` chain that a listing follows."""


@frozen
class RecipeFile:
    """A recipe as installed; its name is the file stem."""

    name: str
    path: Path
    distribution: str


def _folder(package: str) -> Path | None:
    """Folder of a package, found through its top-level package without an import."""
    top, *rest = package.split(".")
    spec = PathFinder.find_spec(top)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)), *rest)


def list_recipes() -> list[RecipeFile]:
    """Every installed recipe, by name."""
    recipes: list[RecipeFile] = []
    for entry in entry_points(GROUP):
        folder = _folder(entry.value)
        if folder is None or not folder.is_dir():
            continue
        recipes.extend(RecipeFile(path.stem, path, entry.distribution) for path in folder.glob("*.toml"))
    return sorted(recipes, key=lambda recipe: (recipe.name, recipe.distribution))


def find_recipe(name: str, *, base: Path | None = None, installed: Sequence[RecipeFile] | None = None) -> Path:
    """File of a recipe given by path, name or `distribution:name`. Raises UserError with the nearest known name.

    base: folder of relative paths; the working directory when absent. installed: all recipes, if listed already.
    """
    if fault := text_fault(name):
        raise UserError(f"the recipe's name {name!r} {fault}; rename it")
    if name.endswith(".toml") or "/" in name:
        path = (base or Path()) / name
        if not isfile(path):
            raise UserError(f"no such recipe file: {path}")
        return path
    distribution, _, plain = name.rpartition(":")
    recipes = list_recipes() if installed is None else installed
    matches = [
        recipe
        for recipe in recipes
        if recipe.name == plain and (not distribution or recipe.distribution == distribution)
    ]
    if len(matches) == 1:
        return matches[0].path
    if matches:
        providers = ", ".join(recipe.distribution for recipe in matches)
        hint = f"write '{matches[0].distribution}:{plain}'"
        raise UserError(
            f"recipe '{name}' is provided by several distributions: {providers}",
            [Problem(message="the name alone is ambiguous", hint=hint)],
        )
    hint = did_you_mean(plain, [recipe.name for recipe in recipes]) or "`cosmos recipes list` shows all"
    raise UserError(f"no recipe '{name}'", [Problem(message="no installed package has it", hint=hint)])


def peek(path: Path, installed: Sequence[RecipeFile] | None = None, depth: int = 0) -> tuple[str, str, str]:
    """Summary, task and dataset of a recipe file, or of the recipes it extends; each "" if not set.

    installed: all recipes, if listed already.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "(not readable)", "", ""
    extends = values.get("extends")
    parent = ("", "", "")
    if isinstance(extends, str) and depth < DEEPEST:
        with suppress(UserError):
            parent = peek(find_recipe(extends, base=path.parent, installed=installed), installed, depth + 1)
    job = values.get("job")
    loader = values.get("dataloader_train")
    dataset = loader.get("dataset") if isinstance(loader, dict) else None
    return (
        str(values.get("summary", parent[0])),
        str(job.get("task", parent[1])) if isinstance(job, dict) else parent[1],
        str(dataset.get("type", parent[2])) if isinstance(dataset, dict) else parent[2],
    )
