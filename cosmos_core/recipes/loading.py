"""From a recipe's name to a RunConfig: the `extends` chain, overrides, interpolation, strict structuring."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Sequence
from datetime import datetime
from os.path import realpath
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from cosmos_core.config.checks import TOLERABLE, cross_field
from cosmos_core.config.compat import translate, without_ineffective
from cosmos_core.config.document import HEADER, Document, Location, Provenance, problem_at, read_document
from cosmos_core.config.dump import to_toml
from cosmos_core.config.env import lookup as environment
from cosmos_core.config.interpolate import interpolate
from cosmos_core.config.locate import KeyPath, key_text
from cosmos_core.config.merge import Layer, assign, merge, unset, value_at
from cosmos_core.config.one_value import one_value_paths
from cosmos_core.config.overrides import parse_overrides
from cosmos_core.config.problems import in_order
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig
from cosmos_core.config.structure import read_resolved, structure_run
from cosmos_core.config.texts import text_problems
from cosmos_core.errors import Problem, UserError, as_problems
from cosmos_core.names import counted
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.recipes.find import find_recipe
from cosmos_core.recipes.head import head_problems, unset_keys
from cosmos_core.recipes.parent import find_parent
from cosmos_core.recipes.written import literal_tables

__all__ = ["ConfigurationError", "Resolved", "load", "load_recorded", "resolve"]

COMMAND_LINE = Location("command line")
EXPERIMENT = ("job", "experiment")

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


@frozen
class _Chain:
    """A recipe and those it starts from, root last. problems: of their heads. complete: whether the root was found."""

    documents: Sequence[Document]
    problems: Sequence[Problem]
    complete: bool


def load(recipe: str, overrides: Sequence[str] = (), *, plugins: PluginManager) -> RunConfig:
    """The configuration of a recipe (name or path) with `key=value` overrides. Raises UserError."""
    return resolve(recipe, overrides, plugins=plugins).config


def resolve(recipe: str, overrides: Sequence[str] = (), *, plugins: PluginManager) -> Resolved:
    """As `load`, with provenance."""
    path = find_recipe(recipe)
    chain = _chain(path)
    documents = chain.documents
    assignments, notes, unreadable = _assignments(overrides)
    named = _layered(chain, assignments, frozenset())[0].values
    one_value = one_value_paths(named, plugins.registry)
    experiment = value_at(documents[0].values, EXPERIMENT)
    assignments, misleading = _without_misleading(assignments, one_value, named, experiment)
    layer, set_back, wrong = _layered(chain, assignments, one_value)
    layer, ineffective = without_ineffective(layer)
    problems = [*chain.problems, *wrong, *unreadable, *misleading]
    # The recipes of the cosmos-framework training scripts name their parents by experiment.
    by_experiment = any("extends" not in document.values for document in documents[:-1])
    tolerated = TOLERABLE if by_experiment else ()
    located = evolve(layer, provenance={**set_back, **layer.provenance})
    config = _structured(located, problems, plugins, title=str(path), tolerated=tolerated, complete=chain.complete)
    notes += [problem_at(key, text, layer.provenance, hint) for key, text, hint in cross_field(config)]
    published = documents[0].values.get("published", {})
    return Resolved(config, layer.provenance, path, tuple(overrides), (*notes, *ineffective), published)


def load_recorded(path: Path, overrides: Sequence[str] = (), *, plugins: PluginManager) -> RunConfig:
    """The configuration that a run recorded in its ``config.toml``, with overrides. Raises UserError."""
    recorded = read_resolved(path, plugins.registry)
    if not overrides:
        return recorded
    layer = Layer(literal_tables(tomllib.loads(to_toml(recorded))), {})
    assignments, _, unreadable = _assignments(overrides)
    one_value = one_value_paths(layer.values, plugins.registry)
    assignments, misleading = _without_misleading(assignments, one_value, layer.values, recorded.job.experiment)
    for key, value in assignments:
        layer = assign(layer, key, value, COMMAND_LINE, one_value)
    problems = [*unreadable, *misleading]
    return _structured(layer, problems, plugins, title=f"{path} with the overrides", tolerated=TOLERABLE)


def _structured(
    layer: Layer,
    found: Sequence[Problem],
    plugins: PluginManager,
    *,
    title: str,
    tolerated: Sequence[KeyPath],
    complete: bool = True,
) -> RunConfig:
    """The configuration. Raises ConfigurationError with the problems `found` before and those of all other keys.

    complete: whether the layer holds all that was written; otherwise keys that it lacks are no problem.
    """
    provenance = layer.provenance
    values, problems = interpolate(layer.values, provenance, environment, datetime.now())
    problems = [*found, *problems, *text_problems(values, provenance)]
    try:
        config = structure_run(values, plugins.registry, provenance, title=title, tolerated=tolerated)
        structural: Sequence[Problem] = ()
    except UserError as error:
        structural = error.problems
    if not complete:
        written = {key_text(path) for path in provenance}
        structural = [problem for problem in structural if problem.key in written]
    known = {problem.key for problem in problems}
    every = in_order([*problems, *(problem for problem in structural if problem.key not in known)])
    if every:
        raise ConfigurationError(f"{counted(len(every), 'problem')} in {title}; nothing was started", every)
    return config


def _assignments(overrides: Sequence[str]) -> tuple[list[Assignment], list[Problem], list[Problem]]:
    """Overrides under the keys of today, notes on those that have another address here, what is wrong with others."""
    assignments: list[Assignment] = []
    notes: list[Problem] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            parsed = parse_overrides([text])
        except UserError as error:
            problems += error.problems
            continue
        for override in parsed:
            key, note = translate(override.path)
            assignments.append((key, override.value))
            notes += [note] if note is not None else []
    return assignments, notes, problems


def _chain(path: Path) -> _Chain:
    """All files from `path` up to the root of the `extends` chain."""
    documents = [read_document(path)]
    problems = list(head_problems(documents[0]))
    while True:
        last = documents[-1]
        parent, wrong = find_parent(last.values, last.path)
        problems += [_located(problem, last) for problem in wrong]
        try:
            if parent is None:
                return _Chain(documents, problems, complete=not wrong)
            resolved = [realpath(document.path) for document in documents]
            if realpath(parent) in resolved:
                message = f"recipes extend each other in a cycle: {' -> '.join([*resolved, realpath(parent)])}"
                raise UserError(message)
            document = read_document(parent)
        except UserError as error:
            problems += [_located(problem, last) for problem in error.problems or as_problems(error, "extends")]
            return _Chain(documents, problems, complete=False)
        documents.append(document)
        problems += head_problems(document)


def _located(problem: Problem, document: Document) -> Problem:
    """With the line of its key in a document, where it names no file of its own."""
    key = tuple(problem.key.split("."))
    return problem if problem.file else problem_at(key, problem.message, document.provenance, problem.hint)


def _layered(
    chain: _Chain, assignments: Sequence[Assignment], one_value: Collection[KeyPath]
) -> tuple[Layer, Provenance, list[Problem]]:
    """The files of a chain merged, root first, and the command line over them.

    Also where keys are set back, and what is wrong with the files' `unset`.
    """
    layer = Layer({}, {})
    set_back: Provenance = {}
    problems: list[Problem] = []
    for document in reversed(chain.documents):
        values = {key: value for key, value in document.values.items() if key not in HEADER}
        keys, wrong = unset_keys(document, layer.provenance, complete=chain.complete)
        problems += wrong
        set_back |= keys
        layer = merge(unset(layer, keys), Layer(values, document.provenance), one_value)
    for key, value in assignments:
        layer = assign(layer, key, value, COMMAND_LINE, one_value)
    return layer, set_back, problems


def _without_misleading(
    assignments: Sequence[Assignment], one_value: Collection[KeyPath], values: dict[str, Any], experiment: Any
) -> tuple[list[Assignment], list[Problem]]:
    """The overrides without those that would do something else than they seem to, and what is wrong with these.

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
        if key[0] in HEADER:
            hint = "write a recipe file with it; `cosmos recipes copy` makes one"
            problems.append(problem_at(key, "is read in recipe files alone", {key: COMMAND_LINE}, hint))
        if key == EXPERIMENT and value != experiment:
            hint = f"run that recipe itself: cosmos run {value}"
            problems.append(problem_at(key, "chooses no recipe on the command line", {key: COMMAND_LINE}, hint))
    wrong = {problem.key for problem in problems}
    return [(key, value) for key, value in assignments if key_text(key) not in wrong], problems
