"""The value a recipe gives to one key."""

from __future__ import annotations

import re
from typing import Any

from cosmos_core.config.dump import to_plain
from cosmos_core.config.overrides import parse_key
from cosmos_core.config.reference import value_text
from cosmos_core.recipes.loading import Resolved

__all__ = ["value_in"]

_ELEMENT = re.compile(r"\[(\d+)\]")


def value_in(resolved: Resolved, key: str) -> dict[str, str]:
    """``value`` and ``origin`` of a key in a resolved recipe; or that its section is not there."""
    path: list[str | int] = []
    value: Any = to_plain(resolved.config)
    for name in parse_key(_ELEMENT.sub(r".\1", key)):
        part = int(name) if isinstance(value, list) and name.isdecimal() else name
        if part not in (range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()):
            return {"value": "not in this recipe"}
        path, value = [*path, part], value[part]
    return {"value": value_text(value), "origin": str(resolved.provenance.get(tuple(path), "default"))}
