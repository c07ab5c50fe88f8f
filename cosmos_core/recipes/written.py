"""Values in recipes that cosmos writes: they are read back as they are, whatever a file is called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["literal", "literal_tables", "toml_text"]


def literal(value: Any) -> Any:
    """A value whose texts `interpolate` gives back as they are: a folder may be called ``${oc.env:HOME}``."""
    if isinstance(value, Mapping):
        return {key: literal(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [literal(inner) for inner in value]
    # A dollar from an interpolation is not looked at again.
    return value.replace("${", "${now:$}{") if isinstance(value, str) else value


def literal_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a whole configuration, whose ``[custom]`` is not interpolated."""
    return {name: table if name == "custom" else literal(table) for name, table in values.items()}


def toml_text(value: Any) -> str:
    """A text, a number or a list of them in TOML, which reads JSON's but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
