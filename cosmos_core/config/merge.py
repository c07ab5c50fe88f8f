"""Layers of values: tables merge, lists and scalars replace, `unset` returns keys to their default."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from attrs import frozen

from cosmos_core.config.document import Origin, Origins
from cosmos_core.config.locate import KeyPath

__all__ = ["Layer", "assign", "merge", "unset"]


@frozen
class Layer:
    """Values and the origin of each key path. Functions here return new layers and change none."""

    values: dict[str, Any]
    origins: Origins


def merge(lower: Layer, upper: Layer) -> Layer:
    """`upper` over `lower`."""
    values, origins = deepcopy(lower.values), dict(lower.origins)
    _merge_table(values, origins, upper, ())
    return Layer(values, origins)


def _merge_table(values: dict[str, Any], origins: Origins, upper: Layer, prefix: KeyPath) -> None:
    table: Any = upper.values
    for part in prefix:
        table = table[part]
    for key, value in table.items():
        path = (*prefix, key)
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge_table(values[key], origins, upper, path)
        else:
            values[key] = deepcopy(value)
            _drop_origins(origins, path)
            origins.update({known: origin for known, origin in upper.origins.items() if known[: len(path)] == path})


def _drop_origins(origins: Origins, path: KeyPath) -> None:
    for known in [known for known in origins if known[: len(path)] == path]:
        del origins[known]


def assign(layer: Layer, path: tuple[str, ...], value: Any, origin: Origin) -> Layer:
    """`layer` with one value replaced; tables on the way are made as needed."""
    nested: Any = value
    for part in reversed(path):
        nested = {part: nested}
    return merge(layer, Layer(nested, {path[: depth + 1]: origin for depth in range(len(path))}))


def unset(layer: Layer, paths: Iterable[tuple[str, ...]]) -> Layer:
    """`layer` without the given keys; absent ones are ignored."""
    values, origins = deepcopy(layer.values), dict(layer.origins)
    for path in paths:
        table: Any = values
        for part in path[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and path[-1] in table:
            del table[path[-1]]
            _drop_origins(origins, path)
    return Layer(values, origins)
