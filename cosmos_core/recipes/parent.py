"""The recipe that a recipe starts from."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import realpath
from pathlib import Path
from typing import Any

from cosmos_core.config.compat import experiment_hint, recipe_of_experiment
from cosmos_core.errors import Problem, UserError
from cosmos_core.recipes.find import RecipeFile, find_recipe, list_recipes

__all__ = ["find_parent"]


def find_parent(values: dict[str, Any], path: Path, installed: Sequence[RecipeFile] | None = None) -> Path | None:
    """File of the recipe that `extends` names, or else ``[job].experiment``; None without a parent.

    A recipe of the cosmos-framework training scripts names its parent by experiment; the installed recipe of that name
    has none. values: of the file `path`. installed: as in `find_recipe`. Raises UserError with one problem, whose key
    says which of the two is wrong.
    """
    installed = list_recipes() if installed is None else installed
    if "extends" in values and not isinstance(values["extends"], str):
        raise _wrong("extends", "expected a recipe's name or path")
    job = values.get("job")
    experiment = job.get("experiment") if isinstance(job, dict) else None
    named = _of_experiment(experiment, installed) if isinstance(experiment, str) else []
    if "extends" in values:
        return _find("extends", values["extends"], installed, path.parent)
    if not named or realpath(path) in [realpath(recipe.path) for recipe in named]:
        return None
    return _find("job.experiment", named[0].name, installed)


def _of_experiment(experiment: str, installed: Sequence[RecipeFile]) -> list[RecipeFile]:
    """The installed recipes that an experiment stands for."""
    name = recipe_of_experiment(experiment)
    matches = [recipe for recipe in installed if recipe.name == name]
    if not matches:
        hint = experiment_hint(experiment, [recipe.name for recipe in installed])
        raise _wrong("job.experiment", f"no recipe for experiment '{experiment}'", hint)
    return matches


def _find(key: str, name: str, installed: Sequence[RecipeFile], base: Path | None = None) -> Path:
    try:
        return find_recipe(name, base=base, installed=installed)
    except UserError as error:
        raise _wrong(key, error.title, *(problem.hint for problem in error.problems)) from None


def _wrong(key: str, message: str, *hints: str) -> UserError:
    return UserError(message, [Problem(message=message, key=key, hint=" ".join(hints))])
