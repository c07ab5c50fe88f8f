"""Mappings that are one value, such as probabilities: a recipe or an override replaces them as a whole."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from cosmos_core.config.locate import KeyPath
from cosmos_core.config.merge import value_at
from cosmos_core.config.structure import SectionLookup
from cosmos_core.errors import UserError

__all__ = ["one_value_paths"]

_NAMED = (("trainer", "callbacks"), ("trackers",))
"""Tables of tables that are typed by their names."""


def one_value_paths(values: Mapping[str, Any], lookup: SectionLookup) -> frozenset[KeyPath]:
    """Addresses of such mappings in the sections that these values name; unknown names are left to `structure_run`."""
    named: list[tuple[KeyPath, str, Any]] = [(("model",), "model", value_at(values, ("job", "task")))]
    for loader in ("dataloader_train", "dataloader_val"):
        dataset = (loader, "dataset")
        named.append((dataset, "dataloader_train.dataset", value_at(values, (*dataset, "type"))))
    for table in _NAMED:
        names = value_at(values, table)
        named += [((*table, name), ".".join(table), name) for name in (names if isinstance(names, dict) else ())]
    paths: list[KeyPath] = []
    for path, section, name in named:
        try:
            kind = lookup.section_class(section, name) if isinstance(name, str) else None
        except UserError:
            continue
        paths += [] if kind is None else _marked(kind, path)
    return frozenset(paths)


def _marked(kind: type, path: KeyPath) -> Iterator[KeyPath]:
    hints = typing.get_type_hints(kind)
    for field in attrs.fields(kind):
        if field.metadata.get("one_value"):
            yield (*path, field.name)
        elif isinstance(hints[field.name], type) and attrs.has(hints[field.name]):
            yield from _marked(hints[field.name], (*path, field.name))
