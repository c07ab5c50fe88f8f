"""All contributions of plugins, by kind and name; `distribution:name` resolves a name with two providers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean
from cosmos_core.plugin.descriptors import ConfiguredSpec, Spec
from cosmos_core.plugin.discovery import Candidate
from cosmos_core.plugin.hookspecs import CONTRIBUTIONS
from cosmos_core.plugin.status import PluginStatus

if TYPE_CHECKING:
    from cosmos_core.config.reference import Section

__all__ = ["Entry", "Registry"]

S = TypeVar("S", bound=Spec)
S_co = TypeVar("S_co", bound=Spec, covariant=True)

_CONFIGURED = [kind for kind in CONTRIBUTIONS.values() if issubclass(kind, ConfiguredSpec)]


@frozen
class Entry(Generic[S_co]):
    """A descriptor and the plugin it came from."""

    spec: S_co
    candidate: Candidate


class Registry:
    """All contributions; also gives the classes of configuration sections that are typed by name."""

    def __init__(self, entries: Iterable[Entry[Spec]], statuses: Iterable[PluginStatus]) -> None:
        self._entries = list(entries)
        self._unusable = [status for status in statuses if status.state != "ok"]

    def get(self, kind: type[S], name: str) -> S:
        """The contribution of that kind and name. Raises UserError when there is none or more than one."""
        distribution, _, plain = name.rpartition(":")
        matches = [
            entry
            for entry in self.entries(kind)
            if entry.spec.name == plain and distribution in ("", entry.candidate.distribution)
        ]
        if len(matches) == 1:
            return matches[0].spec
        if matches:
            raise _ambiguous(kind, name, matches)
        raise self._unknown(kind, name)

    def all(self, kind: type[S]) -> list[S]:
        """All contributions of that kind, built-in ones first."""
        return [entry.spec for entry in self.entries(kind)]

    def entries(self, kind: type[S]) -> list[Entry[S]]:
        """All contributions of that kind, each with its plugin."""
        return [Entry(entry.spec, entry.candidate) for entry in self._entries if isinstance(entry.spec, kind)]

    def of(self, candidate: Candidate) -> list[Spec]:
        """All descriptors of one plugin."""
        return [entry.spec for entry in self._entries if entry.candidate == candidate]

    def sections(self) -> list[Section]:
        """Every table a recipe may hold in this environment, core's first; loads the classes that type them."""
        from cosmos_core.config.reference import CORE_SECTIONS, Section

        contributed = [
            Section(
                kind.section if kind.chosen_by else f"{kind.section}.{entry.spec.name}",
                entry.spec.config.load(),
                entry.candidate.distribution,
                f"{kind.chosen_by} {entry.spec.name}" if kind.chosen_by else "",
            )
            for kind in _CONFIGURED
            for entry in self.entries(kind)
        ]
        return [*CORE_SECTIONS, *contributed]

    def section_class(self, section: str, name: str) -> type:
        """Class of the table of the contribution `name` in `section`. Raises UserError when no plugin provides it."""
        kind = next(kind for kind in _CONFIGURED if kind.section == section)
        table: type = self.get(kind, name).config.load()
        return table

    def _unknown(self, kind: type[Spec], name: str) -> UserError:
        entries = self.entries(kind)
        known = sorted({entry.spec.name for entry in entries})
        if ":" in name:
            known = sorted(f"{entry.candidate.distribution}:{entry.spec.name}" for entry in entries)
        hint = did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"
        if self._unusable:
            unusable = ", ".join(f"{status.candidate.name} ({status.state})" for status in self._unusable)
            hint += f"; not loaded, and `cosmos plugins list` says why: {unusable}"
        return UserError(f"no {kind.kind} '{name}'", [Problem(message="no installed plugin provides it", hint=hint)])


def _ambiguous(kind: type[Spec], name: str, matches: list[Entry[S]]) -> UserError:
    providers = ", ".join(f"{entry.candidate.distribution} {entry.candidate.version}" for entry in matches)
    hint = f"write '{matches[0].candidate.distribution}:{name}', or uninstall one"
    return UserError(
        f"{kind.kind} '{name}' is provided by several distributions: {providers}",
        [Problem(message="the name alone is ambiguous", hint=hint)],
    )
