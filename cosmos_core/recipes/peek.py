"""What a listing says of a recipe file, from its text alone: no plugin is asked and nothing is checked."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from cosmos_core.config.document import read_text
from cosmos_core.config.locate import locate
from cosmos_core.errors import Problem, UserError
from cosmos_core.recipes.find import RecipeFile, find_recipe, list_recipes
from cosmos_core.recipes.parent import find_parent

__all__ = ["Glance", "check_can_run", "peek"]


@frozen(kw_only=True)
class Glance:
    """Summary, task and dataset of a recipe or of those it starts from; each "" if not set.

    not_yet: why this version cannot run it. problem: why it cannot be loaded.
    """

    summary: str = ""
    task: str = ""
    dataset: str = ""
    not_yet: Problem | None = None
    problem: Problem | None = None

    @property
    def text(self) -> str:
        """The summary, or what matters more."""
        return f"not yet: {self.not_yet.message}" if self.not_yet is not None else self.summary


def peek(path: Path, installed: Sequence[RecipeFile] | None = None, *, below: tuple[Path, ...] = ()) -> Glance:
    """What the file says. installed: as in `find_recipe`. below: files that start from this one."""
    installed = list_recipes() if installed is None else installed
    if Path(realpath(path)) in below:
        return Glance(problem=Problem(message="recipes extend each other in a cycle", file=str(path)))
    try:
        text = read_text(path)
        values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        return Glance(problem=Problem(message=f"not readable: {error}", file=str(path)))
    parent, problems = find_parent(values, path, installed)
    if problems:
        line = locate(text).get(tuple(problems[0].key.split(".")))
        return _over(Glance(problem=evolve(problems[0], file=str(path), line=line)), values, path, text)
    above = peek(parent, installed, below=(*below, Path(realpath(path)))) if parent is not None else Glance()
    return _over(above, values, path, text)


def _over(parent: Glance, values: dict[str, Any], path: Path, text: str) -> Glance:
    """What a file adds to its parent's glance."""
    job = values.get("job")
    not_yet = parent.not_yet
    reason = values.get("not_yet")
    if isinstance(reason, str):  # Anything else is an error when the recipe is loaded.
        line = locate(text).get(("not_yet",))
        not_yet = Problem(message=reason, key="not_yet", file=str(path), line=line) if reason else None
    return Glance(
        summary=str(values.get("summary", parent.summary)),
        task=str(job.get("task", parent.task)) if isinstance(job, dict) else parent.task,
        dataset=_datasets(values.get("dataloader_train")) or parent.dataset,
        not_yet=not_yet,
        problem=parent.problem,
    )


def _datasets(loader: Any) -> str:
    """The type of the training data, those of a mixture with plus signs; "" if there is none."""
    if not isinstance(loader, dict):
        return ""
    members = loader.get("mixture") or [loader.get("dataset")]
    types = [member["type"] for member in members if isinstance(member, dict) and "type" in member]
    return " + ".join(map(str, dict.fromkeys(types)))


def check_can_run(recipe: str) -> None:
    """Raises UserError for a recipe that says that this version cannot run it yet."""
    reason = peek(find_recipe(recipe)).not_yet
    if reason is not None:
        raise UserError(f"recipe '{recipe}' cannot run yet; nothing was started", [reason])
