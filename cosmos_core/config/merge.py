"""Layers of values: tables merge, other values replace, `unset` removes keys, so that they have their defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from typing import Any

from attrs import frozen

from cosmos_core.config.document import Location, Provenance
from cosmos_core.config.locate import KeyPath

__all__ = ["Layer", "assign", "merge", "unset", "value_at"]


@frozen
class Layer:
    """Values and the location of each key path. Functions here return new layers."""

    values: dict[str, Any]
    provenance: Provenance


def merge(lower: Layer, upper: Layer, one_value: Collection[KeyPath] = ()) -> Layer:
    """`upper` over `lower`. one_value: mappings that replace as other values do."""
    values, provenance = deepcopy(lower.values), dict(lower.provenance)
    _merge_table(values, provenance, upper, (), one_value)
    return Layer(values, provenance)


def _merge_table(
    values: dict[str, Any], provenance: Provenance, upper: Layer, prefix: KeyPath, one_value: Collection[KeyPath]
) -> None:
    table: Any = upper.values
    for part in prefix:
        table = table[part]
    for key, value in table.items():
        path = (*prefix, key)
        if isinstance(value, dict) and isinstance(values.get(key), dict) and path not in one_value:
            _merge_table(values[key], provenance, upper, path, one_value)
        else:
            values[key] = deepcopy(value)
            _drop_provenance(provenance, path)
            provenance.update(
                {known: location for known, location in upper.provenance.items() if known[: len(path)] == path}
            )


def _drop_provenance(provenance: Provenance, path: KeyPath) -> None:
    for known in [known for known in provenance if known[: len(path)] == path]:
        del provenance[known]


def assign(
    layer: Layer, path: tuple[str, ...], value: Any, location: Location, one_value: Collection[KeyPath] = ()
) -> Layer:
    """`layer` with one value replaced; missing parent tables are created. one_value: as in `merge`."""
    nested: Any = value
    for part in reversed(path):
        nested = {part: nested}
    paths = [*(path[: depth + 1] for depth in range(len(path))), *_paths_inside(value, path)]
    return merge(layer, Layer(nested, dict.fromkeys(paths, location)), one_value)


def _paths_inside(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Paths of all that a table or list holds."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _paths_inside(item, (*path, key))


def unset(layer: Layer, paths: Iterable[KeyPath]) -> Layer:
    """`layer` without the given keys; absent ones are ignored."""
    values, provenance = deepcopy(layer.values), dict(layer.provenance)
    for path in paths:
        table: Any = values
        for part in path[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict) and path[-1] in table:
            del table[path[-1]]
            _drop_provenance(provenance, path)
    return Layer(values, provenance)


def value_at(values: Any, path: KeyPath) -> Any:
    """The value at a path of nested tables; None when there is none."""
    for part in path:
        values = values.get(part) if isinstance(values, dict) else None
    return values
