"""Recipes by name: entry points of the group `cosmos.recipes` name package folders that hold `*.toml`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import PathFinder
from os.path import isdir, isfile
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean, text_fault
from cosmos_core.plugin.entry_points import entry_points

__all__ = ["RecipeFile", "find_recipe", "list_recipes"]

GROUP = "cosmos.recipes"


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

    base: folder of relative paths; the working directory when absent. installed: from `list_recipes`, which takes time.
    """
    if fault := text_fault(name):
        raise UserError(f"the recipe's name {name!r} {fault}; rename it")
    recipes = list_recipes() if installed is None else installed
    if name.endswith(".toml") or "/" in name:
        path = (base or Path()) / name
        if not isfile(path):
            raise _no_file(path, recipes)
        if path.suffix != ".toml":
            raise _no_recipe(name)
        return path
    distribution, _, plain = name.rpartition(":")
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
    names = [recipe.name for recipe in recipes]
    known = [f"{recipe.distribution}:{recipe.name}" for recipe in recipes] if distribution else names
    folder = base or Path()
    if not name:
        hint = "`cosmos recipes list` shows all; was a variable of the shell empty?"
        raise UserError("the name of the recipe is empty", [Problem(message="give a name or a file", hint=hint)])
    if isfile(folder / name):
        raise _no_recipe(name)
    if isdir(folder / name):
        raise _no_file(folder / name, recipes)
    file = f"did you mean the file '{name}.toml'?" if isfile(folder / f"{name}.toml") else ""
    hint = file or did_you_mean(name, known) or "`cosmos recipes list` shows all"
    raise UserError(f"no recipe '{name}'", [Problem(message="no installed package has it", hint=hint)])


def _no_recipe(name: str) -> UserError:
    hint = "data is read by `cosmos data check FILE`, and trained on by a recipe that names it (docs/data.md)"
    problem = Problem(message="the name of a recipe's file ends in .toml", file=name, hint=hint)
    return UserError(f"{name} is no recipe", [problem])


def _no_file(path: Path, recipes: Sequence[RecipeFile]) -> UserError:
    """An error with the nearest file of its folder, the installed recipe of that name, or the recipe in the folder."""
    if isdir(path):
        inside = next((path / name for name in ("recipe.toml", "config.toml") if isfile(path / name)), None)
        hint = f"did you mean '{inside}'?" if inside else "give a recipe file or a name of `cosmos recipes list`"
        return UserError(f"{path} is a folder, not a recipe", [Problem(message="a recipe is one TOML file", hint=hint)])
    files = [near.name for near in path.parent.glob("*.toml")] if isdir(path.parent) else []
    names = [recipe.name for recipe in recipes]
    recipe = did_you_mean(path.stem, names)
    hint = recipe if path.stem in names else did_you_mean(path.name, files) or recipe
    problems = [Problem(message="a name that ends with .toml or has a slash is a file", hint=hint)] if hint else []
    return UserError(f"no such recipe file: {path}", problems)
