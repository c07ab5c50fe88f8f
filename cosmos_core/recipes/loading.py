"""From a recipe's name to a RunConfig: the `extends` chain, overrides, interpolation, strict structuring."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from attrs import field, fields, frozen
from packaging.requirements import InvalidRequirement, Requirement

from cosmos_core.config.checks import TOLERABLE, cross_field
from cosmos_core.config.compat import new_name, recipe_of_experiment, translate, without_ineffective
from cosmos_core.config.document import Document, Location, Provenance, read_document
from cosmos_core.config.dump import to_toml
from cosmos_core.config.env import lookup as environment
from cosmos_core.config.interpolate import interpolate, key_text
from cosmos_core.config.locate import KeyPath
from cosmos_core.config.merge import Layer, assign, merge, unset
from cosmos_core.config.overrides import parse_key, parse_overrides
from cosmos_core.config.run import DataloaderConfig, RunConfig
from cosmos_core.config.structure import problem_at, read_resolved, structure_run
from cosmos_core.config.texts import text_problems
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import find_recipe, list_recipes

__all__ = ["ConfigurationError", "Resolved", "load", "load_recorded", "resolve"]

_HEADER = ("summary", "requires", "extends", "unset", "published")


class ConfigurationError(UserError):
    """Raised when a recipe's values do not make a configuration, with every problem of its keys."""


@frozen
class Resolved:
    """A recipe after all layers. provenance: where each value was written; other values are class defaults.

    notes: what is accepted only for old recipes, with file and line. published: execution settings of the published
    recipe of that name that differ, from the recipe's own file.
    """

    config: RunConfig
    provenance: Provenance
    path: Path
    overrides: tuple[str, ...]
    notes: tuple[Problem, ...] = ()
    published: dict[str, Any] = field(factory=dict)


def load(recipe: str, overrides: Sequence[str] = (), *, plugins: PluginManager) -> RunConfig:
    """The configuration of a recipe (name or path) with `key=value` overrides. Raises UserError."""
    return resolve(recipe, overrides, plugins=plugins).config


def resolve(recipe: str, overrides: Sequence[str] = (), *, plugins: PluginManager) -> Resolved:
    """As `load`, with provenance."""
    path = find_recipe(recipe)
    documents = _chain(path)
    layer, by_experiment = _merged(documents)
    layer, notes = _overridden(layer, overrides)
    layer, ineffective = without_ineffective(layer)
    values, problems = interpolate(layer.values, layer.provenance, environment, datetime.now())
    problems += [*text_problems(values, layer.provenance), *_unset_under_old_names(documents, values, plugins)]
    tolerated = TOLERABLE if by_experiment else ()
    config = _structured(values, problems, plugins, layer.provenance, title=str(path), tolerated=tolerated)
    notes += [problem_at(key, text, layer.provenance, hint) for key, text, hint in cross_field(config)]
    all_notes = (*notes, *ineffective)
    return Resolved(config, layer.provenance, path, tuple(overrides), all_notes, _published(documents[0]))


def _structured(
    values: dict[str, Any],
    problems: Sequence[Problem],
    plugins: PluginManager,
    provenance: Provenance,
    *,
    title: str,
    tolerated: Sequence[KeyPath],
) -> RunConfig:
    """The configuration. Raises ConfigurationError with the `problems` found before and those of all other keys."""
    try:
        config = structure_run(values, plugins.registry, provenance, title=title, tolerated=tolerated)
        found: tuple[Problem, ...] = ()
    except UserError as error:
        found = error.problems
    known = {problem.key for problem in problems}
    every = [*problems, *(problem for problem in found if problem.key not in known)]
    if every:
        count = "1 problem" if len(every) == 1 else f"{len(every)} problems"
        raise ConfigurationError(f"{count} in {title}; nothing was started", every)
    return config


def _unset_under_old_names(
    documents: Sequence[Document], values: dict[str, Any], plugins: PluginManager
) -> Iterator[Problem]:
    """`unset` entries that would be ignored, since their keys were renamed."""
    for document in documents:
        for index, path in enumerate(_unset_paths(document)):
            known = _keys_of(path[0], values, plugins)
            new = new_name(path, known)
            if new and path[-1] not in known:
                message = f"'{key_text(path)}' is now called '{key_text((*path[:-1], new))}'"
                yield problem_at(("unset", index), message, document.provenance, "rename it")


def _keys_of(section: str, values: dict[str, Any], plugins: PluginManager) -> list[str]:
    """Keys of a loader's or the model's table; [] of any other, and of a task that no plugin has."""
    job = values.get("job")
    task = job.get("task") if isinstance(job, dict) else None
    if section in ("dataloader_train", "dataloader_val"):
        return [field.name for field in fields(DataloaderConfig)]
    if section != "model" or not isinstance(task, str):
        return []
    try:
        return [field.name for field in fields(plugins.registry.section_class("model", task))]
    except UserError:
        return []


def load_recorded(path: Path, overrides: Sequence[str] = (), *, plugins: PluginManager) -> RunConfig:
    """The configuration that a run recorded in its ``config.toml``, with overrides. Raises UserError."""
    recorded = read_resolved(path, plugins.registry)
    if not overrides:
        return recorded
    layer, _ = _overridden(Layer(tomllib.loads(to_toml(recorded)), {}), overrides)
    values, problems = interpolate(layer.values, layer.provenance, environment, datetime.now())
    problems += text_problems(values, layer.provenance)
    title = f"{path} with the overrides"
    return _structured(values, problems, plugins, layer.provenance, title=title, tolerated=TOLERABLE)


def _overridden(layer: Layer, overrides: Sequence[str]) -> tuple[Layer, list[Problem]]:
    """The layer with overrides on it, and notes on keys that have another address here."""
    notes: list[Problem] = []
    for override in parse_overrides(overrides):
        key, moved = translate(override.path)
        notes += [moved] if moved else []
        layer = assign(layer, key, override.value, Location("command line"))
    return layer, notes


def _chain(path: Path) -> list[Document]:
    """All files from `path` up to the root of the `extends` chain."""
    documents: list[Document] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        resolved = following.resolve()
        if resolved in seen:
            chain = " -> ".join(str(link) for link in [*seen, resolved])
            raise UserError(f"recipes extend each other in a cycle: {chain}")
        seen.append(resolved)
        document = read_document(following)
        documents.append(document)
        following = _parent(document)
    return documents


def _merged(documents: Sequence[Document]) -> tuple[Layer, bool]:
    """The files of a chain merged, root first, and whether one names its parent by experiment.

    The recipes of the cosmos-framework training scripts do.
    """
    layer = Layer({}, {})
    for document in reversed(documents):
        _check_requires(document)
        values = {key: value for key, value in document.values.items() if key not in _HEADER}
        layer = merge(unset(layer, _unset_paths(document)), Layer(values, document.provenance))
    by_experiment = any("extends" not in document.values and _parent(document) is not None for document in documents)
    return layer, by_experiment


def _parent(document: Document) -> Path | None:
    extends = document.values.get("extends")
    if extends is not None:
        if not isinstance(extends, str):
            raise _header_error(document, "extends", "expected a recipe's name or path")
        return find_recipe(extends, base=document.path.parent)
    job = document.values.get("job")
    experiment = job.get("experiment") if isinstance(job, dict) else None
    if not isinstance(experiment, str):
        return None
    # A recipe of the cosmos-framework training scripts names its parent by experiment.
    # The registered recipe itself has none.
    name = recipe_of_experiment(experiment)
    parents = [recipe.path for recipe in list_recipes() if recipe.name == name]
    return parents[0] if parents and parents[0].resolve() != document.path.resolve() else None


def _published(document: Document) -> dict[str, Any]:
    table = document.values.get("published", {})
    if not isinstance(table, dict):
        raise _header_error(document, "published", "expected a table of keys and their published values")
    return table


def _unset_paths(document: Document) -> Iterable[tuple[str, ...]]:
    entries: Any = document.values.get("unset", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise _header_error(document, "unset", "expected a list of dotted keys")
    try:
        return [parse_key(entry) for entry in entries]
    except ValueError as error:
        raise _header_error(document, "unset", str(error)) from None


def _check_requires(document: Document) -> None:
    problems: list[Problem] = []
    for text in document.values.get("requires", []):
        try:
            requirement = Requirement(text)
            installed = version(requirement.name)
        except (InvalidRequirement, TypeError):
            raise _header_error(document, "requires", f"{text!r} is not a requirement") from None
        except PackageNotFoundError:
            hint = f"pip install '{text}'"
            problems.append(problem_at(("requires",), f"{text} is not installed", document.provenance, hint))
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            hint = f"pip install '{text}'"
            message = f"{text} is required, {installed} is installed"
            problems.append(problem_at(("requires",), message, document.provenance, hint))
    if problems:
        raise UserError(f"{document.path} needs other packages; nothing was started", problems)


def _header_error(document: Document, key: str, message: str) -> UserError:
    problem = problem_at((key,), message, document.provenance)
    return UserError(f"1 problem in {document.path}; nothing was started", [problem])
