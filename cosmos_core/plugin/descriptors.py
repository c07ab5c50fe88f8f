"""Descriptors of a plugin's contributions. Classes are references as text, so that listing imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from attrs import field, frozen, validators

from cosmos_core.refs import Ref

__all__ = [
    "CallbackSpec",
    "CheckpointSpec",
    "CommandSpec",
    "ConfiguredSpec",
    "Conversion",
    "ConverterSpec",
    "DataPath",
    "DatasetSpec",
    "DoctorSpec",
    "ExportUse",
    "MetricSpec",
    "ModelFamilySpec",
    "Spec",
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
class Spec:
    """Base of all descriptors. kind: its name in messages and listings; summary: one line for listings.

    A new kind of contribution is a subclass, and the hook in `hookspecs` that yields it.
    """

    kind: ClassVar[str]
    summary: str

    @property
    def name(self) -> str:
        """The name in recipes and commands."""
        raise NotImplementedError


@frozen(kw_only=True)
class ConfiguredSpec(Spec):
    """Base of descriptors whose contribution has a table in recipes. config: the attrs class of that table.

    section: address of the table. chosen_by: what selects the table's type; "" where tables are named after
    contributions, as in ``[trackers.<name>]``.
    """

    section: ClassVar[str]
    chosen_by: ClassVar[str] = ""
    config: Ref = field(converter=_ref)


@frozen(kw_only=True)
class ModelFamilySpec(ConfiguredSpec):
    """A model family. config: attrs class, a ModelConfig; family: the ModelFamily; accepts: its record types.

    reads: formats of published folders, as `cosmos_identify_checkpoint` names them, that it loads as they are.
    overlong: policies for samples longer than a pack that it knows; 'resize' and 'truncate_answer' need `shorten`.
    """

    kind: ClassVar[str] = "task"
    section: ClassVar[str] = "model"
    chosen_by: ClassVar[str] = "task"
    name: str = _name()
    family: Ref = field(converter=_ref)
    accepts: tuple[str, ...] = field(converter=_words)
    reads: tuple[str, ...] = field(default=(), converter=_words)
    overlong: tuple[str, ...] = field(default=("error", "skip"), converter=_words)


@frozen(kw_only=True)
class DatasetSpec(ConfiguredSpec):
    """A dataset. config: attrs class; source: the MapSource; yields: its record type; prepare: a click command.

    overlong: policies for samples longer than a pack that make sense for it.

    evaluated: options that `cosmos eval SOURCE PATH` sets, so that nothing is drawn. carried: options that such an
    evaluation takes over from the data that the run validates or trains on.
    """

    kind: ClassVar[str] = "dataset"
    section: ClassVar[str] = "dataloader_train.dataset"
    chosen_by: ClassVar[str] = "dataset"
    name: str = _name()
    source: Ref = field(converter=_ref)
    yields: str
    prepare: Ref | None = field(default=None, converter=_optional_ref)
    overlong: tuple[str, ...] = field(default=("error", "skip", "resize", "truncate_answer"), converter=_words)
    evaluated: Mapping[str, Any] = field(factory=dict)
    carried: tuple[str, ...] = field(default=(), converter=_words)


@frozen(kw_only=True)
class MetricSpec(Spec):
    """Metrics of a model's answers.

    metric: takes a list of `Answer`, returns values by name. A value is a number, or a list with a number or None for
    each answer, which is shown beside the answers and averaged. It returns {} for answers it has nothing to say about.

    errors: names of the values that are worse the larger they are. datasets: those it is for, which then get no
    general metrics; empty: a general metric. report: takes the answers and a folder, and writes files there.
    """

    kind: ClassVar[str] = "metric"
    name: str = _name()
    metric: Ref = field(converter=_ref)
    errors: tuple[str, ...] = field(default=(), converter=_words)
    datasets: tuple[str, ...] = field(default=(), converter=_words)
    report: Ref | None = field(default=None, converter=_optional_ref)


@frozen(kw_only=True)
class DataPath:
    """How the data at a path is read where no recipe says it.

    dataset: the dataset's table; None takes back what the recipe sets. recipe: whose other settings are taken.
    validation: options of the dataset that read its validation split, where it has one.
    stand_ins: settings instead of what that recipe would download, such as a tokenizer; note: tells of them.
    """

    dataset: Mapping[str, Any]
    recipe: str
    validation: Mapping[str, Any] = field(factory=dict)
    stand_ins: Mapping[str, str] = field(factory=dict)
    note: str = ""


@frozen(kw_only=True)
class CallbackSpec(ConfiguredSpec):
    """A callback. config: attrs class; callback: the Callback; tasks: those it is for, empty for all.

    folder: its folder in the run directory, the name when absent. always: it runs without a table in the recipe.
    """

    kind: ClassVar[str] = "callback"
    section: ClassVar[str] = "trainer.callbacks"
    name: str = _name()
    callback: Ref = field(converter=_ref)
    tasks: tuple[str, ...] = field(default=(), converter=_words)
    folder: str | None = None
    always: bool = False

    def serves(self, task: str) -> bool:
        """Whether it is for runs of that task, given as its name or ``distribution:name``."""
        return not self.tasks or task.rpartition(":")[2] in self.tasks


@frozen(kw_only=True)
class TrackerSpec(ConfiguredSpec):
    """A metrics tracker. config: attrs class; tracker: the Tracker; always: it runs without a table in the recipe."""

    kind: ClassVar[str] = "tracker"
    section: ClassVar[str] = "trackers"
    name: str = _name()
    tracker: Ref = field(converter=_ref)
    always: bool = False


@frozen(kw_only=True)
class CommandSpec(Spec):
    """A command. path: its words, e.g. ("data", "prepare"); command: a click command or group.

    group: its heading in `cosmos --help`: train, data, models, plugins, configuration, or another word. A spec whose
    path others begin with is their group: the help of its click group introduces them.
    """

    kind: ClassVar[str] = "command"
    path: tuple[str, ...] = field(converter=_words)
    command: Ref = field(converter=_ref)
    group: str = "plugins"

    @property
    def name(self) -> str:
        """Its words, joined by spaces."""
        return " ".join(self.path)


@frozen(kw_only=True)
class CheckpointSpec(Spec):
    """A published checkpoint. repo, revision: on the Hub; files: patterns of files to download, all when empty."""

    kind: ClassVar[str] = "checkpoint"
    name: str
    repo: str
    revision: str = "main"
    files: tuple[str, ...] = field(default=(), converter=_words)


@frozen(kw_only=True)
class Conversion:
    """A request to a converter.

    source: folder; output: folder that must not exist yet. source_revision: a path or ``owner/repository@commit``.

    model: configuration of the run that made the source, None when no run did. base: folder the run started from.
    options: the command's other flags, by name.
    """

    source: Path
    output: Path
    model: Any = None
    base: Path | None = None
    source_revision: str = ""
    options: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class ExportUse:
    """How an exported folder is used, for its record and its model card.

    generation: defaults by name, as JSON has values. library, pipeline: names of the Hub, such as "diffusers" and
    "text-to-video"; "" for none. base_model: ``owner/repository`` of what training started from, "" if unknown. code:
    Python that uses the folder; it runs with the folder as working directory.
    """

    generation: Mapping[str, Any] = field(factory=dict)
    library: str = ""
    pipeline: str = ""
    base_model: str = ""
    code: str = ""


@frozen(kw_only=True)
class ConverterSpec(Spec):
    """A conversion between formats. convert: takes a Conversion, returns facts to print; target 'dcp' or 'hf'.

    Facts are texts, numbers, truth values and lists, by name. task: the family whose checkpoints it converts.
    looks_for: how its source format is recognised, for error messages. describe: of an export, once it is written;
    takes the Conversion and the RunConfig of the run (None without a run), returns an ExportUse.
    """

    kind: ClassVar[str] = "converter"
    source: str
    target: str
    task: str
    convert: Ref = field(converter=_ref)
    looks_for: str = ""
    describe: Ref | None = field(default=None, converter=_optional_ref)

    @property
    def name(self) -> str:
        """The name in listings."""
        return f"{self.source} to {self.target}"


@frozen(kw_only=True)
class DoctorSpec(Spec):
    """Checks of `cosmos doctor`. checks: takes a `cosmos_core.doctor.DoctorOptions`, returns its Checks in order."""

    kind: ClassVar[str] = "checks"
    name: str = _name()
    checks: Ref = field(converter=_ref)
