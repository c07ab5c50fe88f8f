"""A RunConfig as plain values, TOML and YAML."""

from __future__ import annotations

from datetime import time
from typing import Any

import attrs

from cosmos_core.config.run import RunConfig

__all__ = ["to_plain", "to_toml", "to_yaml"]


def to_plain(config: Any) -> dict[str, Any]:
    """Built-in types only; sections become tables, tuples become lists."""
    plain = _plain(config)
    assert isinstance(plain, dict)
    return plain


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _without_none(value: Any) -> Any:
    """TOML has no null. Optional fields default to None, so leaving them out means the same."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def to_toml(config: RunConfig) -> str:
    """TOML that `read_resolved` reads back to an equal RunConfig."""
    import tomlkit

    return tomlkit.dumps(_without_none(to_plain(config)))


def to_yaml(config: RunConfig) -> str:
    """YAML in the order of the sections. TOML's times of day, which YAML lacks, become text."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(time, lambda dumper, value: dumper.represent_str(value.isoformat()))
    return yaml.dump(to_plain(config), Dumper=Dumper, sort_keys=False, allow_unicode=True)
