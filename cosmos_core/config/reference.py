"""Every key a recipe may hold: type, default, bounds, unit, help and owner, from the attrs sections."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import attrs
from attrs import frozen

from cosmos_core.config.fields import OnResume, default_of, on_resume_of
from cosmos_core.config.run import (
    CheckpointConfig,
    DataloaderConfig,
    JobConfig,
    OptimizerConfig,
    RunConfig,
    SchedulerConfig,
    TrainerConfig,
)

__all__ = ["CORE_SECTIONS", "Key", "Section", "keys_of", "reference_page", "type_text", "value_text"]


@frozen
class Section:
    """A table of a recipe. path: its dotted address; owner: distribution; when: what selects it, "" for always."""

    path: str
    cls: type
    owner: str
    when: str = ""


@frozen
class Key:
    """One key. default: as TOML, "required" or "not set". choices, low, high: what bounds it.

    on_resume: whether a run that resumes with another value is rejected, or lists the change and continues.
    """

    name: str
    type: str
    default: str
    help: str
    owner: str
    when: str
    on_resume: OnResume
    unit: str = ""
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None

    @property
    def bounds(self) -> str:
        """Choices or bounds as text, "" without any."""
        if self.choices is not None:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}" if self.high else ""


CORE_SECTIONS = (
    Section("job", JobConfig, "cosmos-core"),
    Section("optimizer", OptimizerConfig, "cosmos-core"),
    Section("scheduler", SchedulerConfig, "cosmos-core"),
    Section("trainer", TrainerConfig, "cosmos-core"),
    Section("checkpoint", CheckpointConfig, "cosmos-core"),
    Section("dataloader_train", DataloaderConfig, "cosmos-core"),
)

_NAMED = {"callbacks", "dataset"}
"""Fields that are tables typed by their names."""


def type_text(kind: Any) -> str:
    """A type by its TOML name."""
    plain = {str: "string", int: "integer", float: "number", bool: "true or false", type(None): "null", Any: "any"}
    if kind in plain:
        return plain[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {type_text(arguments[0])}"
        return f"list of {len(arguments)} {type_text(arguments[0])}"
    if origin is dict:
        return f"table of {type_text(arguments[1])}"
    return "table"


def _default_text(field: Any) -> str:
    default = default_of(field)
    return "required" if default is attrs.NOTHING else value_text(default)


def value_text(value: Any) -> str:
    """A value as TOML writes it; None is "not set"."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {value_text(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def keys_of(section: Section) -> Iterator[Key]:
    """All keys of a section and of the tables below it, in the order of the classes."""
    table = attrs.fields_dict(RunConfig)[section.path.partition(".")[0]]
    return _keys_of(section, on_resume_of(table, "list"))


def _keys_of(section: Section, inherited: OnResume) -> Iterator[Key]:
    hints = typing.get_type_hints(section.cls)
    for field in attrs.fields(section.cls):
        name, kind, about = f"{section.path}.{field.name}", hints[field.name], field.metadata
        on_resume = on_resume_of(field, inherited)
        if isinstance(kind, type) and attrs.has(kind) and field.name not in _NAMED:
            yield from _keys_of(Section(name, kind, section.owner, section.when), on_resume)
        elif field.name not in _NAMED:
            yield Key(
                name=name,
                type=type_text(kind),
                default=_default_text(field),
                help=about.get("help", ""),
                owner=section.owner,
                when=section.when,
                on_resume=on_resume,
                unit=about.get("unit", ""),
                choices=tuple(about["choices"]) if about.get("choices") is not None else None,
                low=about.get("min"),
                high=about.get("max"),
            )


_INTRODUCTION = """\
# Configuration reference

Every key a recipe may hold. This page is generated by `make docs` from the sections of the installed distributions;
`cosmos config explain KEY` shows one key, with its current value and where that was set.

A recipe file may also hold, at its top: `summary` (one line), `extends` (a recipe's name or path), `requires` (list of
requirements), `unset` (list of keys to set back to their defaults) and `[published]` (settings of the published recipe
of that name that differ; `cosmos recipes show` prints them). `[custom]` is free-form.

The column "on resume" says what happens when a run resumes with another value than the one that trained its
checkpoint. "refuse": an error before anything starts, since saved tensors or the objective would mean something else.
"list": the run continues, and the plan and the log name the change. Without a rule, a plugin's keys below `[model]` are
"refuse" and its other keys "list"; `option(..., on_resume="list")` or `"refuse"` sets the rule of a key or a section.
"""


def reference_page(sections: Iterable[Section]) -> str:
    """Markdown: one table a section."""
    parts = [_INTRODUCTION]
    for section in sections:
        title = f"## [{section.path}]" + (f" when {section.when}" if section.when else "")
        head = _prose((section.cls.__doc__ or "").strip().splitlines()[0])
        rows = [_row(key, section) for key in keys_of(section)]
        table = (
            ["| key | type | default | on resume | meaning |", "|---|---|---|---|---|", *rows] if rows else ["No keys."]
        )
        parts.append("\n".join([title, "", f"{head} ({section.owner})", "", *table]) + "\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """Escape angle brackets, which Markdown takes for tags."""
    return text.replace("<", "&lt;")


def _row(key: Key, section: Section) -> str:
    name = key.name.removeprefix(f"{section.path}.")
    return f"| `{name}` | {key.type} | {_cell(key)} | {key.on_resume} | {_prose(key.help)} |"


def _cell(key: Key) -> str:
    details = "; ".join(text for text in (key.bounds, key.unit) if text)
    return f"`{key.default}`" + (f" ({details})" if details else "")
