"""The value a recipe gives to one key."""

from __future__ import annotations

from typing import Any

from cosmos_core.config.dump import to_plain
from cosmos_core.config.overrides import parse_key
from cosmos_core.config.reference import value_text
from cosmos_core.recipes.loading import Resolved

__all__ = ["value_in"]


def value_in(resolved: Resolved, key: str) -> dict[str, str]:
    """``value`` and ``origin`` of a key in a resolved recipe; or that its section is not there."""
    path = parse_key(key)
    value: Any = to_plain(resolved.config)
    for part in path:
        if not isinstance(value, dict) or part not in value:
            return {"value": "not in this recipe"}
        value = value[part]
    return {"value": value_text(value), "origin": str(resolved.provenance.get(path, "default"))}
