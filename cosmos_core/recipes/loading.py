"""From a recipe's name to a RunConfig: the `extends` chain, overrides, interpolation, strict structuring."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from os.path import realpath
from pathlib import Path
from typing import Any

from attrs import field, frozen
from packaging.requirements import InvalidRequirement, Requirement

from cosmos_core.config.checks import TOLERABLE, cross_field
from cosmos_core.config.compat import RENAMED, translate, without_ineffective
from cosmos_core.config.document import Document, Location, Provenance, problem_at, read_document
from cosmos_core.config.dump import to_toml
from cosmos_core.config.env import lookup as environment
from cosmos_core.config.interpolate import interpolate
from cosmos_core.config.locate import KeyPath, key_text
from cosmos_core.config.merge import Layer, assign, merge, unset, value_at
from cosmos_core.config.one_value import one_value_paths
from cosmos_core.config.overrides import parse_key, parse_overrides
from cosmos_core.config.problems import in_order
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig
from cosmos_core.config.structure import read_resolved, structure_run
from cosmos_core.config.texts import text_problems
from cosmos_core.errors import Problem, UserError, problem_count
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import find_recipe
from cosmos_core.recipes.parent import find_parent
from cosmos_core.recipes.written import literal_tables

__all__ = ["ConfigurationError", "Resolved", "load", "load_recorded", "resolve"]

COMMAND_LINE = Location("command line")
EXPERIMENT = ("job", "experiment")

_HEADER = ("summary", "requires", "extends", "unset", "published", "not_yet")

Assignment = tuple[tuple[str, ...], Any]
"""Key and value of an override."""


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
    assignments, notes = _assignments(overrides)
    named = _layered(documents, assignments, frozenset()).values
    one_value = one_value_paths(named, plugins.registry)
    _check_assignments(assignments, one_value, named, value_at(documents[0].values, EXPERIMENT))
    layer, ineffective = without_ineffective(_layered(documents, assignments, one_value))
    values, problems = interpolate(layer.values, layer.provenance, environment, datetime.now())
    problems += text_problems(values, layer.provenance)
    # The recipes of the cosmos-framework training scripts name their parents by experiment.
    by_experiment = any("extends" not in document.values for document in documents[:-1])
    tolerated = TOLERABLE if by_experiment else ()
    config = _structured(values, problems, plugins, layer.provenance, title=str(path), tolerated=tolerated)
    notes += [problem_at(key, text, layer.provenance, hint) for key, text, hint in cross_field(config)]
    all_notes = (*notes, *ineffective)
    return Resolved(config, layer.provenance, path, tuple(overrides), all_notes, _published(documents[0]))


def load_recorded(path: Path, overrides: Sequence[str] = (), *, plugins: PluginManager) -> RunConfig:
    """The configuration that a run recorded in its ``config.toml``, with overrides. Raises UserError."""
    recorded = read_resolved(path, plugins.registry)
    if not overrides:
        return recorded
    layer = Layer(literal_tables(tomllib.loads(to_toml(recorded))), {})
    assignments, _ = _assignments(overrides)
    one_value = one_value_paths(layer.values, plugins.registry)
    _check_assignments(assignments, one_value, layer.values, recorded.job.experiment)
    for key, value in assignments:
        layer = assign(layer, key, value, COMMAND_LINE, one_value)
    values, problems = interpolate(layer.values, layer.provenance, environment, datetime.now())
    problems += text_problems(values, layer.provenance)
    title = f"{path} with the overrides"
    return _structured(values, problems, plugins, layer.provenance, title=title, tolerated=TOLERABLE)


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
        structural: tuple[Problem, ...] = ()
    except UserError as error:
        structural = error.problems
    known = {problem.key for problem in problems}
    every = in_order([*problems, *(problem for problem in structural if problem.key not in known)])
    if every:
        raise ConfigurationError(f"{problem_count(every)} in {title}; nothing was started", every)
    return config


def _assignments(overrides: Sequence[str]) -> tuple[list[Assignment], list[Problem]]:
    """Overrides under the keys of today, and notes on those that have another address here."""
    moved = [(translate(override.path), override.value) for override in parse_overrides(overrides)]
    return [(key, value) for (key, _), value in moved], [note for (_, note), _ in moved if note is not None]


def _chain(path: Path) -> list[Document]:
    """All files from `path` up to the root of the `extends` chain."""
    documents: list[Document] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        resolved = Path(realpath(following))
        if resolved in seen:
            chain = " -> ".join(str(link) for link in [*seen, resolved])
            raise UserError(f"recipes extend each other in a cycle: {chain}")
        seen.append(resolved)
        document = read_document(following)
        documents.append(document)
        following = _parent(document)
    return documents


def _parent(document: Document) -> Path | None:
    """The file that a recipe starts from. Raises UserError with the line of a wrong name."""
    try:
        return find_parent(document.values, document.path)
    except UserError as error:
        (problem,) = error.problems
        key = tuple(problem.key.split("."))
        raise _header_error(document, key, problem.message, problem.hint) from None


def _layered(documents: Sequence[Document], assignments: Sequence[Assignment], one_value: Collection[KeyPath]) -> Layer:
    """The files of a chain merged, root first, and the command line over them."""
    layer = Layer({}, {})
    for document in reversed(documents):
        _check_texts(document)
        _check_requires(document)
        values = {key: value for key, value in document.values.items() if key not in _HEADER}
        rest = unset(layer, _unset_paths(document, layer))
        layer = merge(rest, Layer(values, document.provenance), one_value)
    for key, value in assignments:
        # An entry of such a mapping was refused; what is left replaces the whole.
        layer = assign(layer, key, value, COMMAND_LINE, one_value)
    return layer


def _check_assignments(
    assignments: Sequence[Assignment], one_value: Collection[KeyPath], values: dict[str, Any], experiment: Any
) -> None:
    """Raises UserError for overrides that would do something else than they seem to.

    values: with the overrides merged into them. experiment: the recipe's own.
    """
    problems = []
    for key, value in assignments:
        whole = next((path for path in one_value if key[: len(path)] == path and key != path), None)
        if whole is not None:
            hint = f"give all of it: {key_text(whole)}={{{key[-1]} = {value_text(value)}, ...}}"
            problems.append(problem_at(key, "is part of one value", {key: COMMAND_LINE}, hint))
        if value == {} and key not in one_value and value_at(values, key):
            hint = "tables are merged: leave it out, or list keys to drop under `unset` in a recipe file"
            problems.append(problem_at(key, "is an empty table, which changes nothing", {key: COMMAND_LINE}, hint))
        if key[0] in _HEADER:
            hint = "write a recipe file with it; `cosmos recipes copy` makes one"
            problems.append(problem_at(key, "is read in recipe files alone", {key: COMMAND_LINE}, hint))
        if key == EXPERIMENT and value != experiment:
            hint = f"run that recipe itself: cosmos run {value}"
            problems.append(problem_at(key, "chooses no recipe on the command line", {key: COMMAND_LINE}, hint))
    if problems:
        raise UserError("bad override on the command line; nothing was started", problems)


def _published(document: Document) -> dict[str, Any]:
    table = document.values.get("published", {})
    if not isinstance(table, dict):
        raise _header_error(document, ("published",), "expected a table of keys and their published values")
    return table


def _unset_paths(document: Document, lower: Layer) -> Iterable[tuple[str, ...]]:
    """Keys that a file sets back. Raises UserError for a name that none of the files below it sets."""
    entries: Any = document.values.get("unset", [])
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise _header_error(document, ("unset",), "expected a list of dotted keys")
    try:
        paths = [parse_key(entry) for entry in entries]
    except ValueError as error:
        raise _header_error(document, ("unset",), str(error)) from None
    known = [key_text(path) for path in lower.provenance]
    problems = []
    for index, path in enumerate(paths):
        if path in lower.provenance:
            continue
        name = key_text(path)
        if name in RENAMED:
            message, hint = f"'{name}' is now called '{RENAMED[name]}'", "rename it"
        else:
            message, hint = f"no parent sets '{name}'", did_you_mean(name, known) or "remove it"
        problems.append(problem_at(("unset", index), message, document.provenance, hint))
    if problems:
        raise UserError(f"{problem_count(problems)} in {document.path}; nothing was started", problems)
    return paths


def _check_texts(document: Document) -> None:
    for key in ("summary", "not_yet"):
        if not isinstance(document.values.get(key, ""), str):
            raise _header_error(document, (key,), "expected a text in quotes")


def _check_requires(document: Document) -> None:
    problems: list[Problem] = []
    requires: Any = document.values.get("requires", [])
    if not isinstance(requires, list):
        raise _header_error(document, ("requires",), 'expected a list of requirements, e.g. ["cosmos-vfm>=0.1"]')
    for text in requires:
        try:
            requirement = Requirement(text)
            installed = version(requirement.name)
        except (InvalidRequirement, TypeError):
            raise _header_error(document, ("requires",), f"{text!r} is not a requirement") from None
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


def _header_error(document: Document, key: KeyPath, message: str, hint: str = "") -> UserError:
    problem = problem_at(key, message, document.provenance, hint)
    return UserError(f"1 problem in {document.path}; nothing was started", [problem])
