"""JSON Schema of a recipe, with the sections of every installed plugin, for editors."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any

import attrs

from cosmos_core.config.bounds import Bounds
from cosmos_core.config.fields import bounds_of
from cosmos_core.config.reference import Section

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    Any: {},
}
_INTERPOLATED = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
"""Any value may be an interpolation or `???`."""


def json_schema(sections: Iterable[Section], *, task: str | None = None) -> dict[str, Any]:
    """Schema of a recipe file. task: only this model family; all when absent."""
    everything = list(sections)
    models = [part for part in everything if part.path == "model" and task in (None, part.when.removeprefix("task "))]
    datasets = [part for part in everything if part.path == "dataloader_train.dataset"]
    properties: dict[str, Any] = {
        "summary": {"type": "string", "description": "One line for listings."},
        "extends": {"type": "string", "description": "Name or path of the recipe this one starts from."},
        "requires": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Distributions that must be installed.",
        },
        "unset": {"type": "array", "items": {"type": "string"}, "description": "Keys that return to their defaults."},
        "not_yet": {"type": "string", "description": "Why this version cannot run the recipe."},
        "published": {"type": "object", "description": "Execution settings of the published recipe that differ."},
        "custom": {"type": "object", "description": "Free-form; recorded, never read."},
        "model": {"anyOf": [_table(part.cls) for part in models]},
        "trackers": _named(everything, "trackers."),
    }
    for part in everything:
        if "." not in part.path and part.path != "model":
            properties[part.path] = _table(part.cls)
    properties["trainer"]["properties"]["callbacks"] = _named(everything, "trainer.callbacks.")
    loader, dataset = properties["dataloader_train"], {"anyOf": [_dataset(part) for part in datasets]}
    del loader["properties"]["mixture"]
    loader["properties"]["dataset"] = dataset
    properties["dataloader_val"] = loader
    members = {"type": "array", "items": dataset, "description": "Several datasets instead of one."}
    properties["dataloader_train"] = {**loader, "properties": {**loader["properties"], "mixture": members}}
    return {
        "$schema": _DIALECT,
        "title": "cosmos recipe" + (f" for task {task}" if task else ""),
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _named(sections: list[Section], prefix: str) -> dict[str, Any]:
    tables = {part.path.removeprefix(prefix): _table(part.cls) for part in sections if part.path.startswith(prefix)}
    return {"type": "object", "additionalProperties": False, "properties": tables}


def _dataset(section: Section) -> dict[str, Any]:
    table = _table(section.cls)
    table["properties"]["type"] = {"const": section.when.removeprefix("dataset ")}
    return table


def _table(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    properties = {
        field.name: {**_kind(hints[field.name], bounds_of(field)), **_notes(field)} for field in attrs.fields(cls)
    }
    return {
        "type": "object",
        "description": (cls.__doc__ or "").strip().splitlines()[0],
        "additionalProperties": False,
        "properties": properties,
    }


def _notes(field: Any) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    if field.metadata.get("help"):
        unit = f" ({field.metadata['unit']})" if field.metadata.get("unit") else ""
        notes["description"] = field.metadata["help"] + unit
    if field.default is not attrs.NOTHING and not isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        default = field.default
        notes["default"] = list(default) if isinstance(default, tuple) else default
    return notes


def _kind(kind: Any, bounds: Bounds) -> dict[str, Any]:
    if isinstance(kind, type) and attrs.has(kind):
        return _table(kind)
    strict = _strict(kind, bounds)
    return {"anyOf": [strict, _INTERPOLATED]} if strict else {}


def _strict(kind: Any, bounds: Bounds) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and attrs.has(kind):
        return _table(kind)
    if origin in (typing.Union, types.UnionType):
        return _strict(next(argument for argument in arguments if argument is not type(None)), bounds)
    if origin is tuple:
        fixed = Ellipsis not in arguments
        length = {"minItems": len(arguments), "maxItems": len(arguments)} if fixed else {}
        return {"type": "array", "items": _strict(arguments[0], bounds), **length}
    if origin is dict:
        names = {"propertyNames": {"enum": list(bounds.keys)}} if bounds.keys is not None else {}
        return {"type": "object", "additionalProperties": _strict(arguments[1], bounds), **names}
    if bounds.choices is not None and bounds.takes_digits:
        return {"enum": [*bounds.choices, *(int(choice) for choice in bounds.choices if choice.isdecimal())]}
    limits = {
        "enum": None if bounds.choices is None else list(bounds.choices),
        "minimum": bounds.low,
        "exclusiveMinimum": bounds.above,
        "maximum": bounds.high,
        "exclusiveMaximum": bounds.below,
        "format": "regex" if bounds.regex else None,
    }
    plain = {**_SCALARS[kind], **{name: limit for name, limit in limits.items() if limit is not None}}
    return {"anyOf": [plain, {"enum": list(bounds.also)}]} if bounds.also else plain
