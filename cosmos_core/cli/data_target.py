"""What `cosmos data check` and `cosmos data show` are given: a recipe, a prepared folder, or data of any kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
import click

from cosmos_core.config.locate import key_text
from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import DataPath, DatasetSpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import find_recipe, list_recipes
from cosmos_core.recipes.loading import resolve
from cosmos_core.recipes.written import literal, toml_text

__all__ = ["recipe_option", "resolve_target"]

DATASET = ("dataloader_train", "dataset")
RECIPE = "recipe.toml"
"""Where `cosmos data prepare folder` leaves the recipe of a dataset."""

recipe_option = click.option("--recipe", help="Recipe that data without one is read with, such as yours.")


def resolve_target(target: str, overrides: Sequence[str], recipe: str | None, plugins: PluginManager) -> RunConfig:
    """The configuration of a recipe (name or file), of a prepared folder, or of the data in a file or folder.

    recipe: takes the place of the recipe that a folder has, or that a plugin names for data. Raises UserError.
    """
    path = Path(target)
    if not path.exists() or path.suffix == ".toml":
        if recipe is not None:
            raise UserError(f"--recipe is for data; '{target}' is itself a recipe, or does not exist")
        if path.suffix != ".toml":
            _check_recipe(path, target)
        return resolve(target, overrides, plugins=plugins).config
    if recipe is None and (path / RECIPE).is_file():
        return resolve(str(path / RECIPE), overrides, plugins=plugins).config
    data = plugins.identify_data(path)
    if data is None:
        hint = "give a recipe, or data of a kind that docs/data.md describes"
        raise UserError(
            "this is neither a recipe nor known data", [Problem(message=_what(path), file=target, hint=hint)]
        )
    if recipe is None:
        click.echo(f"{target}: read as dataset '{data.dataset['type']}', settings of recipe {data.recipe}", err=True)
        if data.note:
            click.echo(f"note: {data.note}; --recipe NAME takes your recipe's", err=True)
        assignments = [f"{key}={json.dumps(value)}" for key, value in data.stand_ins.items()]
        return _on_data(data, data.recipe, [*assignments, *overrides], plugins)
    return _on_data(data, recipe, overrides, plugins)


def _check_recipe(path: Path, target: str) -> None:
    """Raises UserError for a word that names neither a file nor an installed recipe, with the nearest name of both."""
    recipes = [recipe.name for recipe in list_recipes()]
    if target.rpartition(":")[2] in recipes:
        return
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, beside) or did_you_mean(target, recipes) or "`cosmos recipes list` shows all recipes"
    problem = Problem(message="there is no such file or folder, and no recipe of that name", file=target, hint=hint)
    raise UserError("there is nothing to read", [problem])


def _what(path: Path) -> str:
    if path.is_dir():
        return (
            "holds no manifest, no table, no dialogs and no clips with captions" if any(path.iterdir()) else "is empty"
        )
    return "is no manifest, no table of clips (a spreadsheet is read when it is saved as CSV) and no file of dialogs"


def _on_data(data: DataPath, recipe: str, overrides: Sequence[str], plugins: PluginManager) -> RunConfig:
    """The recipe on other training data. What its dataset sets and the other one does not know is taken back."""
    parent = find_recipe(recipe)
    layers = resolve(str(parent), plugins=plugins).provenance
    options = plugins.registry.get(DatasetSpec, str(data.dataset["type"])).config.load()
    known = {field.name for field in attrs.fields(options)}
    set_there = [key for key in layers if key[:2] == DATASET and len(key) > 2]
    unset = [key for key in set_there if key[2] not in known or data.dataset.get(str(key[2]), "") is None]
    table = [f"{name} = {toml_text(literal(value))}" for name, value in data.dataset.items() if value is not None]
    lines = [
        f"extends = {toml_text(str(parent.resolve()))}",
        f"unset = {toml_text([key_text(key) for key in unset])}",
        "[trainer]\nrun_validation = false",
        "[dataloader_train.dataset]",
        *table,
    ]
    with TemporaryDirectory() as folder:
        file = Path(folder, "data.toml")
        file.write_text("\n".join(lines), encoding="utf-8")
        return resolve(str(file), overrides, plugins=plugins).config
