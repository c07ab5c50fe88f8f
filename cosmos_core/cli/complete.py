"""What shells offer for the arguments of commands: recipes, keys and their values, runs, names from plugins.

Everything heavy is imported inside functions, and nothing here imports torch: a completion must feel immediate.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from cosmos_core.errors import UserError
from cosmos_core.plugin.descriptors import CheckpointSpec, ConverterSpec, DatasetSpec, ModelFamilySpec

if TYPE_CHECKING:
    from cosmos_core.config.reference import Key
    from cosmos_core.plugin.manager import PluginManager

__all__ = [
    "checkpoint_names",
    "converter_sources",
    "converter_targets",
    "data_and_recipes",
    "gpu_names",
    "items",
    "key_names",
    "key_values",
    "plugin_names",
    "recipes_and_files",
    "run_directories",
    "steps",
    "task_names",
]


def recipes_and_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Installed recipes, and TOML files; any file when neither matches."""
    from cosmos_core.recipes.find import list_recipes
    from cosmos_core.recipes.peek import peek

    installed = list_recipes()
    names = [
        CompletionItem(recipe.name, help=peek(recipe.path, installed).text)
        for recipe in installed
        if recipe.name.startswith(incomplete)
    ]
    folder, _, start = incomplete.rpartition("/")
    files = sorted(Path(folder + "/" if folder or incomplete.startswith("/") else ".").glob(f"{start}*.toml"))
    names += [CompletionItem(f"{incomplete.removesuffix(start)}{file.name}") for file in files]
    return names or [CompletionItem(incomplete, type="file")]


def gpu_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Kinds of GPUs behind a number, if there is one: ``8xH`` completes to ``8xH100-80GB``."""
    from cosmos_core.plan.gpus import GPUS

    number, times, start = incomplete.rpartition("x")
    return [
        CompletionItem(f"{number}{times}{name}", help=f"{gpu.memory:.0f} GiB")
        for name, gpu in GPUS.items()
        if name.lower().startswith(start.lower())
    ]


def data_and_recipes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Installed recipes, and any file or folder."""
    recipes = [item for item in recipes_and_files(ctx, param, incomplete) if item.type == "plain"]
    return [*recipes, CompletionItem(incomplete, type="file")]


def key_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Every configuration key."""
    return items(_names(_keys(ctx)), incomplete)


def key_values(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """``key=`` for every key of the recipe on the line; after it, the values that the key can have.

    zsh and fish complete the word ``key=value``. bash ends words at "=", so that the key and "=" come before it.
    """
    keys = _keys(ctx)
    name = incomplete.partition("=")[0]
    if name != incomplete:
        return items({f"{name}={choice}": "" for choice in _choices(ctx, keys, name)}, incomplete)
    before = [word for word in ctx.params.get(str(param.name)) or () if word != "="]
    choices = _choices(ctx, keys, before[-1]) if before else []
    if choices:
        return items(dict.fromkeys(choices, ""), incomplete)
    return items({f"{name}=": help for name, help in _names(keys).items()}, incomplete)


def run_directories(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Runs below the output root; any folder when none matches."""
    from cosmos_core.config.env import output_root
    from cosmos_core.plan.paths import RunPaths

    runs = [path for path in sorted(output_root().glob("*/*/*")) if RunPaths(path).checkpoints.is_dir()]
    return items(dict.fromkeys(map(str, runs), ""), incomplete) or [CompletionItem(incomplete, type="dir")]


def steps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Steps of the checkpoints in the run on the line."""
    from cosmos_core.plan.paths import RunPaths, step_of

    # While the option lacks its value, click leaves the arguments before it in ctx.args.
    words = [Path(word) for word in (*ctx.params.values(), *ctx.args) if isinstance(word, str | Path)]
    folders = [folder for word in words for folder in sorted(RunPaths(word).checkpoints.glob("iter_*"))]
    numbers = [step_of(folder) for folder in folders]
    return items({str(step): "" for step in numbers if step is not None}, incomplete)


def plugin_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Installed plugins, with their states."""
    return items({status.candidate.name: status.state for status in _plugins(ctx).statuses}, incomplete)


def checkpoint_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Published checkpoints; any folder when none matches."""
    names = {spec.name: spec.summary for spec in _plugins(ctx).registry.all(CheckpointSpec)}
    return items(names, incomplete) or [CompletionItem(incomplete, type="dir")]


def converter_sources(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Formats that converters read."""
    return items({spec.source: spec.summary for spec in _plugins(ctx).registry.all(ConverterSpec)}, incomplete)


def converter_targets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Formats that converters write."""
    return items({spec.target: spec.summary for spec in _plugins(ctx).registry.all(ConverterSpec)}, incomplete)


def task_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Model families."""
    return items({spec.name: spec.summary for spec in _plugins(ctx).registry.all(ModelFamilySpec)}, incomplete)


def items(texts: dict[str, str], incomplete: str) -> list[CompletionItem]:
    """Those of the names that begin so, each with its text."""
    return [CompletionItem(name, help=text or None) for name, text in texts.items() if name.startswith(incomplete)]


def _plugins(ctx: click.Context) -> PluginManager:
    plugins: PluginManager = ctx.obj
    return plugins


def _keys(ctx: click.Context) -> list[Key]:
    """Keys of the recipe on the line, which may be the data that are looked at; of all sections without one."""
    from cosmos_core.config.reference import keys_of

    recipe = ctx.params.get("recipe") or ctx.params.get("target")
    applies = _selectors(recipe) if recipe else None
    sections = [section for section in _plugins(ctx).registry.sections() if applies is None or section.when in applies]
    return [key for section in sections for key in keys_of(section)]


def _names(keys: list[Key]) -> dict[str, str]:
    """Name -> help; both loaders have the keys that are listed for the training one."""
    names = {key.name: key.help for key in keys}
    trained, validated = "dataloader_train.", "dataloader_val."
    return names | {
        name.replace(trained, validated, 1): help for name, help in names.items() if name.startswith(trained)
    }


def _selectors(recipe: str) -> Iterable[str] | None:
    """What selects the sections that a recipe uses; None where it cannot be read, or is no recipe."""
    from cosmos_core.recipes.find import find_recipe
    from cosmos_core.recipes.peek import peek

    try:
        glance = peek(find_recipe(recipe))
    except UserError:
        return None
    return ("", f"task {glance.task}", *(f"dataset {name}" for name in glance.dataset.split(" + ")))


def _choices(ctx: click.Context, keys: list[Key], name: str) -> list[str]:
    """Values of an enumeration, a flag, or a key that names a contribution."""
    registry = _plugins(ctx).registry
    if name.startswith("dataloader_") and name.endswith(".dataset.type"):
        return [spec.name for spec in registry.all(DatasetSpec)]
    if name == "job.task":
        return [spec.name for spec in registry.all(ModelFamilySpec)]
    trained = name.replace("dataloader_val.", "dataloader_train.", 1)
    key = next((key for key in keys if key.name == trained), None)
    if key is None:
        return []
    if key.type == "true or false":
        return ["true", "false"]
    return [str(value) for value in (*(key.allowed.choices or ()), *key.allowed.also)]
