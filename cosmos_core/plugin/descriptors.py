"""The records a plugin hands over. They name classes as text, so that listing imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen, validators

from cosmos_core.refs import Ref

__all__ = [
    "CallbackSpec",
    "CheckpointSpec",
    "CommandSpec",
    "Conversion",
    "ConverterSpec",
    "DatasetSpec",
    "ModelFamilySpec",
    "TrackerSpec",
]


def _ref(value: str | Ref) -> Ref:
    return value if isinstance(value, Ref) else Ref(value)


def _optional_ref(value: str | Ref | None) -> Ref | None:
    return None if value is None else _ref(value)


def _words(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _name() -> Any:
    return field(validator=[validators.instance_of(str), validators.matches_re(r"[a-z][a-z0-9_]*")])


@frozen(kw_only=True)
class ModelFamilySpec:
    """A model family. config: attrs class, a ModelConfig; family: the ModelFamily; accepts: its record types."""

    name: str = _name()
    summary: str
    config: Ref = field(converter=_ref)
    family: Ref = field(converter=_ref)
    accepts: tuple[str, ...] = field(converter=_words)


@frozen(kw_only=True)
class DatasetSpec:
    """A dataset. config: attrs class; source: the MapSource; yields: its record type; prepare: a click command."""

    name: str = _name()
    summary: str
    config: Ref = field(converter=_ref)
    source: Ref = field(converter=_ref)
    yields: str
    prepare: Ref | None = field(default=None, converter=_optional_ref)


@frozen(kw_only=True)
class CallbackSpec:
    """A callback. config: attrs class; callback: the Callback; tasks: families it is for, empty for all.

    folder: its folder in the run directory, the name when absent. always: it runs without a table in the recipe.
    """

    name: str = _name()
    summary: str
    config: Ref = field(converter=_ref)
    callback: Ref = field(converter=_ref)
    tasks: tuple[str, ...] = field(default=(), converter=_words)
    folder: str | None = None
    always: bool = False


@frozen(kw_only=True)
class TrackerSpec:
    """A sink for metrics. config: attrs class; tracker: the Tracker; always: it runs without a table in the recipe."""

    name: str = _name()
    summary: str
    config: Ref = field(converter=_ref)
    tracker: Ref = field(converter=_ref)
    always: bool = False


@frozen(kw_only=True)
class CommandSpec:
    """A command. path: its words, e.g. ("data", "prepare"); command: a click command or group."""

    path: tuple[str, ...] = field(converter=_words)
    summary: str
    command: Ref = field(converter=_ref)


@frozen(kw_only=True)
class CheckpointSpec:
    """A published checkpoint. repo, revision: on the Hub; files: patterns of what to fetch, all when empty."""

    name: str
    summary: str
    repo: str
    revision: str = "main"
    files: tuple[str, ...] = field(default=(), converter=_words)


@frozen(kw_only=True)
class Conversion:
    """What a converter is asked to do. source: folder; output: folder that must not exist yet. origin: where the
    source came from, a path or ``owner/repository@commit``.

    task, model: of the run that made the source, None when no run did. base: folder the run started from. options:
    the command's other flags, by name.
    """

    source: Path
    output: Path
    task: str | None = None
    model: Any = None
    base: Path | None = None
    origin: str = ""
    options: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class ConverterSpec:
    """A conversion between formats. convert: takes a Conversion, returns facts to print; target 'dcp' or 'hf'.

    task: the family whose checkpoints it converts. looks_for: what makes a folder one of its source format, for people
    whose folder is none.
    """

    source: str
    target: str
    task: str
    summary: str
    convert: Ref = field(converter=_ref)
    looks_for: str = ""

    @property
    def name(self) -> str:
        """How listings call it."""
        return f"{self.source} to {self.target}"
