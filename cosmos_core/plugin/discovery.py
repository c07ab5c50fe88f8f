"""Installed plugins: entry points of the group `cosmos.plugins`, and the built-in one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from attrs import frozen

__all__ = ["BUILTIN", "Candidate", "candidates"]

GROUP = "cosmos.plugins"


@frozen
class Candidate:
    """A plugin before it is loaded. module: the light module with its hook implementations."""

    name: str
    distribution: str
    version: str
    module: str


BUILTIN = Candidate("core", "cosmos-core", "", "cosmos_core.builtin.plugin")


def _candidate(entry: EntryPoint) -> Candidate:
    distribution = entry.dist
    return Candidate(
        name=entry.name,
        distribution=distribution.name if distribution else "unknown",
        version=distribution.version if distribution else "",
        module=entry.value,
    )


def candidates() -> list[Candidate]:
    """The built-in plugin, then every installed one by name; nothing is imported."""
    from cosmos_core import __version__

    installed = sorted((_candidate(entry) for entry in entry_points(group=GROUP)), key=lambda candidate: candidate.name)
    builtin = Candidate(BUILTIN.name, BUILTIN.distribution, __version__, BUILTIN.module)
    return [builtin, *installed]
