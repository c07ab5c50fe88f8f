"""Installed plugins: entry points of the group `cosmos.plugins`, and the built-in one."""

from __future__ import annotations

from attrs import frozen

from cosmos_core.plugin.entry_points import entry_points

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


def candidates() -> list[Candidate]:
    """The built-in plugin, then every installed one by name; nothing is imported."""
    from cosmos_core import __version__

    entries = sorted(entry_points(GROUP), key=lambda entry: entry.name)
    installed = [Candidate(entry.name, entry.distribution, entry.version, entry.value) for entry in entries]
    builtin = Candidate(BUILTIN.name, BUILTIN.distribution, __version__, BUILTIN.module)
    return [builtin, *installed]
