"""Everything plugins offer, by name. A name with two providers is unusable alone; `distribution:name` always works."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import (
    CallbackSpec,
    CheckpointSpec,
    CommandSpec,
    ConverterSpec,
    DatasetSpec,
    ModelFamilySpec,
    TrackerSpec,
)
from cosmos_core.plugin.discovery import Candidate
from cosmos_core.plugin.status import PluginStatus

if TYPE_CHECKING:
    from cosmos_core.config.reference import Section

__all__ = ["Catalog", "Provided"]

Spec = TypeVar("Spec")


@frozen
class Provided(Generic[Spec]):
    """A descriptor and the plugin it came from."""

    spec: Spec
    candidate: Candidate


class _Shelf(Generic[Spec]):
    def __init__(self, kind: str, provided: Iterable[Provided[Any]], unusable: Iterable[PluginStatus]) -> None:
        self.kind = kind
        self.entries: list[Provided[Spec]] = list(provided)
        self.unusable = list(unusable)

    def find(self, name: str) -> Spec:
        distribution, _, plain = name.rpartition(":")
        matches = [
            entry
            for entry in self.entries
            if getattr(entry.spec, "name", None) == plain
            and (not distribution or entry.candidate.distribution == distribution)
        ]
        if len(matches) == 1:
            return matches[0].spec
        if matches:
            raise self._clash(name, matches)
        raise self._unknown(name)

    def _clash(self, name: str, matches: list[Provided[Spec]]) -> UserError:
        providers = ", ".join(f"{entry.candidate.distribution} {entry.candidate.version}" for entry in matches)
        hint = f"write '{matches[0].candidate.distribution}:{name}', or uninstall one"
        return UserError(
            f"{self.kind} '{name}' is provided by several distributions: {providers}",
            [Problem(message="the name alone is ambiguous", hint=hint)],
        )

    def _unknown(self, name: str) -> UserError:
        known = sorted({getattr(entry.spec, "name", "") for entry in self.entries})
        hint = did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"
        if self.unusable:
            hint += "; not loaded: " + ", ".join(
                f"{status.candidate.name} ({status.state})" for status in self.unusable
            )
        return UserError(f"no {self.kind} '{name}'", [Problem(message="no installed plugin provides it", hint=hint)])


class Catalog:
    """Merged view of the contributions; it also types configuration sections by the names they carry."""

    def __init__(self, provided: Iterable[Provided[Any]], statuses: Iterable[PluginStatus]) -> None:
        entries = list(provided)
        unusable = [status for status in statuses if status.state != "ok"]

        def shelf(kind: str, record: type) -> _Shelf[Any]:
            return _Shelf(kind, [entry for entry in entries if isinstance(entry.spec, record)], unusable)

        self._entries = entries
        self._families: _Shelf[ModelFamilySpec] = shelf("task", ModelFamilySpec)
        self._datasets: _Shelf[DatasetSpec] = shelf("dataset", DatasetSpec)
        self._callbacks: _Shelf[CallbackSpec] = shelf("callback", CallbackSpec)
        self._trackers: _Shelf[TrackerSpec] = shelf("tracker", TrackerSpec)
        self._checkpoints: _Shelf[CheckpointSpec] = shelf("checkpoint", CheckpointSpec)
        self._converters: _Shelf[ConverterSpec] = shelf("converter", ConverterSpec)
        self._commands: _Shelf[CommandSpec] = shelf("command", CommandSpec)

    def family(self, name: str) -> ModelFamilySpec:
        """The model family of that name; UserError when there is none, or more than one."""
        return self._families.find(name)

    def dataset(self, name: str) -> DatasetSpec:
        """The dataset of that name."""
        return self._datasets.find(name)

    def callback(self, name: str) -> CallbackSpec:
        """The callback of that name."""
        return self._callbacks.find(name)

    def tracker(self, name: str) -> TrackerSpec:
        """The tracker of that name."""
        return self._trackers.find(name)

    def checkpoint(self, name: str) -> CheckpointSpec:
        """The published checkpoint of that name."""
        return self._checkpoints.find(name)

    def converter(self, source: str, target: str, task: str | None = None) -> ConverterSpec:
        """The conversion between two formats, of one task if given. Raises UserError listing what there is."""
        known = [entry.spec for entry in self._converters.entries]
        for spec in known:
            if (spec.source, spec.target) == (source, target) and task in (None, spec.task):
                return spec
        raise UserError(
            f"no plugin converts '{source}' to '{target}'" + (f" for task '{task}'" if task else ""),
            self.conversions(target),
        )

    def conversions(self, target: str) -> list[Problem]:
        """What can become `target`, and what is looked for in each; everything when nothing can."""
        known = [entry.spec for entry in self._converters.entries]
        chosen = [spec for spec in known if spec.target == target] or known
        return [
            Problem(
                message=f"{spec.name} ({spec.summary}; task {spec.task})"
                + (f" looks for {spec.looks_for}" if spec.looks_for else "")
            )
            for spec in chosen
        ]

    def checkpoints(self) -> list[CheckpointSpec]:
        """All published checkpoints."""
        return [entry.spec for entry in self._checkpoints.entries]

    def datasets(self) -> list[DatasetSpec]:
        """All datasets."""
        return [entry.spec for entry in self._datasets.entries]

    def callbacks(self) -> list[CallbackSpec]:
        """All callbacks, built-in ones first."""
        return [entry.spec for entry in self._callbacks.entries]

    def trackers(self) -> list[TrackerSpec]:
        """All trackers, built-in ones first."""
        return [entry.spec for entry in self._trackers.entries]

    def commands(self) -> list[CommandSpec]:
        """All commands, built-in ones first."""
        return [entry.spec for entry in self._commands.entries]

    def of(self, candidate: Candidate) -> list[Any]:
        """All descriptors of one plugin."""
        return [entry.spec for entry in self._entries if entry.candidate == candidate]

    def sections(self) -> list[Section]:
        """Every table a recipe may hold in this environment, core's first; loads the classes that type them."""
        from cosmos_core.config.reference import CORE_SECTIONS, Section

        named = (
            ("model", "task {}", self._families),
            ("dataloader_train.dataset", "dataset {}", self._datasets),
            ("trainer.callbacks.{}", "", self._callbacks),
            ("trackers.{}", "", self._trackers),
        )
        contributed = [
            Section(
                path.format(entry.spec.name),
                entry.spec.config.load(),
                entry.candidate.distribution,
                when.format(entry.spec.name),
            )
            for path, when, shelf in named
            for entry in shelf.entries
        ]
        return [*CORE_SECTIONS, *contributed]

    def family_config(self, name: str) -> type:
        """Class of ``[model]`` for a task."""
        return self.family(name).config.load()

    def dataset_config(self, name: str) -> type:
        """Class of a dataset table."""
        return self.dataset(name).config.load()

    def callback_config(self, name: str) -> type:
        """Class of a callback's table."""
        return self.callback(name).config.load()

    def tracker_config(self, name: str) -> type:
        """Class of a tracker's table."""
        return self.tracker(name).config.load()
