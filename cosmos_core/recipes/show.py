"""A resolved recipe as text."""

from __future__ import annotations

from typing import Any

from cosmos_core.config.dump import to_plain, to_toml
from cosmos_core.config.interpolate import key_text
from cosmos_core.config.locate import KeyPath
from cosmos_core.recipes.loading import Resolved

__all__ = ["show"]


def show(resolved: Resolved, *, origins: bool = False) -> str:
    """TOML of the whole configuration, or one `key = value  # origin` line a value."""
    if not origins:
        return to_toml(resolved.config)
    lines = []
    for path, value in _leaves(to_plain(resolved.config), ()):
        origin = resolved.origins.get(path, "default")
        lines.append(f"{key_text(path)} = {_text(value)}  # {origin}")
    return "\n".join(lines) + "\n"


def _leaves(value: Any, path: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    return [(path, value)]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    import tomlkit

    return tomlkit.item(value).as_string()
