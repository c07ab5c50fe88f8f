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


def find_parent(
    values: dict[str, Any], path: Path, installed: Sequence[RecipeFile] | None = None
) -> tuple[Path | None, list[Problem]]:
    """File of the recipe that `extends` names, or else ``[job].experiment``, and what is wrong with these two.

    A recipe of the cosmos-framework training scripts names its parent by experiment; the installed recipe of that name
    has none. values: of the file `path`. installed: as in `find_recipe`.
    """
    installed = list_recipes() if installed is None else installed
    job = values.get("job")
    experiment = job.get("experiment") if isinstance(job, dict) else None
    named, problems = _of_experiment(experiment, installed) if isinstance(experiment, str) else ([], [])
    parent = None
    try:
        if "extends" in values:
            parent = _find(values["extends"], installed, path.parent)
        elif named and realpath(path) not in [realpath(recipe.path) for recipe in named]:
            parent = find_recipe(named[0].name, installed=installed)
    except UserError as error:
        key = "extends" if "extends" in values else "job.experiment"
        hint = " ".join(problem.hint for problem in error.problems)
        problems = [Problem(message=error.title, key=key, hint=hint), *problems]
    return parent, problems


def _of_experiment(experiment: str, installed: Sequence[RecipeFile]) -> tuple[list[RecipeFile], list[Problem]]:
    """The installed recipes that an experiment stands for, and a problem where there is none."""
    name = recipe_of_experiment(experiment)
    matches = [recipe for recipe in installed if recipe.name == name]
    if matches:
        return matches, []
    hint = experiment_hint(experiment, [recipe.name for recipe in installed])
    return [], [Problem(message=f"no recipe for experiment '{experiment}'", key="job.experiment", hint=hint)]


def _find(name: Any, installed: Sequence[RecipeFile], base: Path) -> Path:
    if not isinstance(name, str):
        raise UserError("expected a recipe's name or path")
    return find_recipe(name, base=base, installed=installed)
