"""A resolved recipe as text."""

from __future__ import annotations

from typing import Any

from cosmos_core.config.dump import to_plain, to_toml
from cosmos_core.config.locate import KeyPath, key_text
from cosmos_core.config.merge import value_at
from cosmos_core.recipes.loading import Resolved

__all__ = ["differences", "show"]

HEADING = "# Settings that differ in the published recipe of this name:"


def show(resolved: Resolved, *, provenance: bool = False) -> str:
    """TOML of the whole configuration, or one `key = value  # location` line a value.

    Settings that differ in the published recipe of that name come first, as comments.
    """
    head = [
        f"#   {key_text(path)} = {_text(theirs)}  # here {_text(ours)}" for path, theirs, ours in differences(resolved)
    ]
    if head:
        head = [HEADING, *head, ""]
    if not provenance:
        return "\n".join([*head, to_toml(resolved.config)])
    lines = []
    for path, value in _leaves(to_plain(resolved.config), ()):
        location = resolved.provenance.get(path, "default")
        lines.append(f"{key_text(path)} = {_text(value)}  # {location}")
    return "\n".join([*head, *lines]) + "\n"


def differences(resolved: Resolved) -> list[tuple[KeyPath, Any, Any]]:
    """Key, published value and own value of the execution settings in which a published recipe differs."""
    config = to_plain(resolved.config)
    leaves = _leaves(resolved.published, ()) if resolved.published else []
    pairs = [(path, theirs, value_at(config, path)) for path, theirs in leaves]
    return [(path, theirs, ours) for path, theirs, ours in pairs if theirs != ours]


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [(path, value)]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{}"  # A table is a value only where it is empty.
    import tomlkit

    return tomlkit.item(value).as_string()
