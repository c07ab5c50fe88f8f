"""Builds a RunConfig from plain values. Types are strict, and all problems are reported together."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Protocol

import attrs

from cosmos_core.config.bounds import InvalidValues
from cosmos_core.config.checks import TOLERABLE, cross_field
from cosmos_core.config.compat import new_name
from cosmos_core.config.converter import Fault, UnknownKey, describe, faults, strict_converter
from cosmos_core.config.document import HEADER, Provenance, problem_at, read_document
from cosmos_core.config.locate import KeyPath, how_to_set, key_text
from cosmos_core.config.problems import in_order
from cosmos_core.config.run import (
    CheckpointConfig,
    DataloaderConfig,
    DatasetConfig,
    JobConfig,
    OptimizerConfig,
    RunConfig,
    SchedulerConfig,
    TrainerConfig,
)
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted, did_you_mean

__all__ = ["SectionLookup", "read_resolved", "structure_run"]


class SectionLookup(Protocol):
    """Finds the class of a table whose keys depend on a name, such as a tracker or a dataset."""

    def section_class(self, section: str, name: str) -> type:
        """Class of the table of `name` in `section`, e.g. "trackers". Raises UserError when no plugin provides it."""
        ...


_SECTIONS: tuple[tuple[str, type], ...] = (
    ("trainer", TrainerConfig),
    ("optimizer", OptimizerConfig),
    ("scheduler", SchedulerConfig),
    ("checkpoint", CheckpointConfig),
    ("job", JobConfig),
    ("dataloader_train", DataloaderConfig),
)
"""Sections whose keys no name changes."""


def _elsewhere(name: str) -> str:
    """A suggestion for a key that is known elsewhere; "" where it is not."""
    if name in HEADER:
        return "it stands at the top of the file, above all tables"
    keys = (f"{section}.{name}" for section, kind in _SECTIONS if name in (field.name for field in attrs.fields(kind)))
    key = next(keys, "")
    return f"did you mean '{key}'?" if key else ""


class _Builder:
    """Builds section after section and collects the problems instead of stopping at the first."""

    def __init__(self, lookup: SectionLookup, provenance: Provenance, *, accept_old_names: bool) -> None:
        self.lookup = lookup
        self.provenance = provenance
        self.accept_old_names = accept_old_names
        self.problems: list[Problem] = []
        self.no_tables: set[KeyPath] = set()
        self.converter = strict_converter()

    def add_problem(self, path: KeyPath, message: str, hint: str = "") -> None:
        """Add one, unless it only follows from a value that stands where a table should."""
        if any(path[:depth] in self.no_tables for depth in range(1, len(path) + 1)):
            return
        self.problems.append(problem_at(path, message, self.provenance, hint))

    def build(self, value: Any, kind: type, path: KeyPath) -> Any:
        """`value` as `kind`; None when it has problems, which are added."""
        try:
            with attrs.validators.disabled():
                built: Any = self.converter.structure(value, kind)
        except Exception as error:
            all_faults = faults(error, path)
            current = _with_new_names(value, all_faults) if self.accept_old_names else value
            if current != value:
                return self.build(current, kind, path)
            for inner, fault in all_faults:
                self._add_fault(inner, fault)
            self._validate_rest(value, kind, path, [inner[len(path) :] for inner, _ in all_faults])
            return None
        before = len(self.problems)
        self._validate(built, path)
        return built if len(self.problems) == before else None

    def _validate_rest(self, value: Any, kind: type, path: KeyPath, faulty: list[KeyPath]) -> None:
        """Check bounds and choices of the other keys too, so that they are reported together with the faulty ones."""
        rest = deepcopy(value)
        for inner in faulty:
            if not inner:
                return  # The whole is faulty, for example no table.
            table = rest
            for part in inner[:-1]:
                if not isinstance(table.get(part), dict):
                    break  # A list is left out as a whole.
                table = table[part]
            else:
                part = inner[-1]
            table.pop(part, None)
        try:
            with attrs.validators.disabled():
                built: Any = self.converter.structure(rest, kind)
        except Exception:
            return
        self._validate(built, path)

    def _add_fault(self, path: KeyPath, fault: Exception) -> None:
        if isinstance(fault, UnknownKey):
            if new := new_name(path, fault.known):
                self.add_problem(path, f"is now called '{key_text((*path[:-1], new))}'", "rename it")
            else:
                name = str(path[-1])
                self.add_problem(path, "unknown key", did_you_mean(name, fault.known) or _elsewhere(name))
        elif isinstance(fault, KeyError):
            self.add_problem(path, "is missing", how_to_set(path))
        else:
            self.add_problem(path, str(fault))

    def _validate(self, value: Any, path: KeyPath) -> None:
        if not attrs.has(type(value)):
            return
        for field in attrs.fields(type(value)):
            inner = getattr(value, field.name)
            self._validate(inner, (*path, field.name))
            if field.validator is None:
                continue
            try:
                field.validator(value, field, inner)
            except InvalidValues as error:
                for rest, message in error.faults:
                    self.add_problem((*path, field.name, *rest), message)
            except (ValueError, TypeError) as error:
                self.add_problem((*path, field.name), str(error))

    def table(self, values: dict[str, Any], path: KeyPath) -> dict[str, Any]:
        """A copy of the table at `path`; {} when it is absent. Another kind of value is a problem and gives {}."""
        value: Any = values
        for depth, part in enumerate(path, 1):
            value = value.get(part, {})
            if not isinstance(value, dict):
                self.add_problem(path[:depth], f"expected a table, got {describe(value)}")
                self.no_tables.add(path[:depth])
                return {}
        return dict(value)

    def named(self, section: str, name: str, value: Any, path: KeyPath, *, named_at: KeyPath | None = None) -> Any:
        """`value` as the class that `name` has in `section`. named_at: the key that holds the name; default: `path`."""
        try:
            kind = self.lookup.section_class(section, name)
        except UserError as error:
            hint = error.problems[0].hint if error.problems else ""
            self.add_problem(named_at or path, error.title, hint)
            return None
        return self.build(value, kind, path)


def _with_new_names(value: Any, all_faults: Sequence[Fault]) -> Any:
    """A copy of the table, in which the unknown keys that were renamed have their new names."""
    value = deepcopy(value)
    for inner, fault in all_faults:
        new = new_name(inner, fault.known) if isinstance(fault, UnknownKey) else ""
        if new:
            value.setdefault(new, value.pop(inner[-1]))
    return value


def _dataloader(builder: _Builder, values: dict[str, Any], name: str) -> DataloaderConfig | None:
    table = builder.table(values, (name,))
    mixture, single = table.pop("mixture", None), table.get("dataset")
    if mixture not in (None, []):
        members = _mixture(builder, mixture, name)
        if single is not None and members:
            where = builder.provenance.get((name, "dataset"))
            message = f"is given, and so is {name}.dataset" + (f" ({where})" if where is not None else "")
            hint = f'keep one; `unset = ["{name}.dataset"]` in a recipe, or {name}.dataset=null, drops an inherited one'
            builder.add_problem((name, "mixture"), message, hint)
        table |= {"dataset": None, "mixture": [member for member in members if member is not None]}
        is_complete = bool(members) and None not in members
    else:
        dataset = _dataset(builder, {} if single is None else single, (name, "dataset"))
        # A placeholder for a wrong dataset, so that the loader's other keys are still checked.
        table["dataset"] = dataset if dataset is not None else DatasetConfig(type="")
        is_complete = dataset is not None
    loader = builder.build(table, DataloaderConfig, (name,))
    return loader if is_complete else None


def _mixture(builder: _Builder, mixture: Any, name: str) -> list[DatasetConfig | None]:
    """The datasets of a mixture, None for those with problems; [] if it is no mixture."""
    path = (name, "mixture")
    if name != "dataloader_train":
        builder.add_problem(path, "is for training data alone", "name one dataset for validation")
        return []
    if not isinstance(mixture, list):
        builder.add_problem(path, f"expected a list of tables, got {describe(mixture)}", f"write [[{name}.mixture]]")
        return []
    return [_dataset(builder, member, (*path, index)) for index, member in enumerate(mixture)]


def _dataset(builder: _Builder, value: Any, path: KeyPath) -> DatasetConfig | None:
    if not isinstance(value, dict):
        builder.add_problem(path, f"expected a table, got {describe(value)}")
        return None
    kind = value.get("type")
    if not isinstance(kind, str):
        fault = "is missing" if kind is None else f"expected text, got {describe(kind)}"
        builder.add_problem((*path, "type"), fault, "name a dataset; `cosmos plugins list` shows them")
        return None
    built: DatasetConfig | None = builder.named(
        "dataloader_train.dataset", kind, dict(value), path, named_at=(*path, "type")
    )
    return built


def _named_tables(builder: _Builder, values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    section = ".".join(path)
    return {
        name: builder.named(section, name, value, (*path, name)) for name, value in builder.table(values, path).items()
    }


def _sections(builder: _Builder, values: dict[str, Any]) -> dict[str, Any]:
    job = builder.table(values, ("job",))
    sections: dict[str, Any] = {"job": builder.build(job, JobConfig, ("job",))}
    if isinstance(job.get("task"), str):
        model = builder.table(values, ("model",))
        sections["model"] = builder.named("model", job["task"], model, ("model",), named_at=("job", "task"))
    for name, section in (
        ("optimizer", OptimizerConfig),
        ("scheduler", SchedulerConfig),
        ("checkpoint", CheckpointConfig),
    ):
        sections[name] = builder.build(builder.table(values, (name,)), section, (name,))
    trainer = builder.table(values, ("trainer",))
    trainer["callbacks"] = _named_tables(builder, values, ("trainer", "callbacks"))
    sections["trainer"] = builder.build(trainer, TrainerConfig, ("trainer",))
    sections["dataloader_train"] = _dataloader(builder, values, "dataloader_train")
    if values.get("dataloader_val") is not None:
        sections["dataloader_val"] = _dataloader(builder, values, "dataloader_val")
    sections["trackers"] = _named_tables(builder, values, ("trackers",))
    sections["custom"] = builder.table(values, ("custom",))
    return sections


def structure_run(
    values: dict[str, Any],
    lookup: SectionLookup,
    provenance: Provenance,
    *,
    title: str,
    tolerated: Sequence[KeyPath] = (),
    accept_old_names: bool = False,
) -> RunConfig:
    """Values as a RunConfig. Raises UserError with every unknown key, wrong type, value out of bounds and broken rule.

    title: source of the values for the error, e.g. the recipe file. tolerated: keys for which a broken rule of
    `cross_field` is no error. accept_old_names: read renamed keys (`compat.RENAMED`) under their new names; otherwise
    they are errors.
    """
    builder = _Builder(lookup, provenance, accept_old_names=accept_old_names)
    known = [field.name for field in attrs.fields(RunConfig)]
    for key in values:
        if key not in known:
            builder.add_problem((key,), "unknown section", did_you_mean(key, (*known, *HEADER)) or _elsewhere(key))
    sections = _sections(builder, values)
    if not builder.problems:
        config = RunConfig(**sections)
        for path, message, hint in cross_field(config):
            if path not in tolerated:
                builder.add_problem(path, message, hint)
        if not builder.problems:
            return config
    problems = in_order(builder.problems)
    raise UserError(f"{counted(len(problems), 'problem')} in {title}; nothing was started", problems)


def read_resolved(path: Path, lookup: SectionLookup) -> RunConfig:
    """The configuration in a run directory's ``config.toml``.

    Keys that were renamed since are read under their new names, so that old runs resume, evaluate and export. Raises
    UserError.
    """
    document = read_document(path)
    return structure_run(
        document.values,
        lookup,
        document.provenance,
        title=str(path),
        tolerated=TOLERABLE,
        accept_old_names=True,
    )
