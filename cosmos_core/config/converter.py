"""A strict cattrs converter: types must be as declared, and numbers finite.

Only this is accepted besides: an integer for a number, digits in quotes for either, an integer for a word of digits.

By default cattrs turns "no" into True, 1.9 into 1 and a string into a list of letters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from math import isfinite
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.errors import ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from cosmos_core.config.fields import bounds_of
from cosmos_core.config.locate import KeyPath

__all__ = ["DIGITS", "Fault", "UnknownKey", "faults", "strict_converter"]

DIGITS = re.compile(r"[+-]?[0-9]+")
_LARGEST = 2**63 - 1
_WORDS = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    date: "a date",
    time: "a time",
    datetime: "a date with a time",
}


class UnknownKey(ValueError):
    """A key its section does not have; `known` are those it has."""

    def __init__(self, known: list[str]) -> None:
        super().__init__("unknown key")
        self.known = known


Fault = tuple[KeyPath, Exception]


def describe(value: Any) -> str:
    """`value` and its type as text."""
    if value is None:
        return "nothing (null)"
    kind = _WORDS.get(type(value), "a table" if isinstance(value, dict) else type(value).__name__)
    if isinstance(value, date | time):
        return f"{value} ({kind})"
    shown = _shown(value) if isinstance(value, bool) else repr(value).replace("'", '"')
    return kind if isinstance(value, dict) else f"{shown} ({kind})"


def _shown(value: Any) -> str:
    """As TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _scalar(kind: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if kind is float and type(value) is float and not isfinite(value):
            raise ValueError(f"must be a finite number; got {value}")
        if kind in (int, float) and type(value) is int and abs(value) > _LARGEST:
            raise ValueError(f"must be at most {_LARGEST}, either sign; got {value}")
        if type(value) is kind:
            return value
        if kind in (int, float) and type(value) is str and DIGITS.fullmatch(value):
            return structure(int(value), kind)
        if kind is float and type(value) is int:
            return float(value)
        quoted = (
            f"; write '\"{_shown(value)}\"'" if kind is str and isinstance(value, int | float | date | time) else ""
        )
        raise TypeError(f"expected {_WORDS[kind]}, got {describe(value)}{quoted}")

    return structure


def _is_number_or_word(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType) and any(get_origin(part) is Literal for part in get_args(kind))


def _number_or_word(kind: Any) -> Callable[[Any, Any], Any]:
    """Of ``int | Literal["auto"]``."""
    number, literal = get_args(kind)
    words = get_args(literal)

    def structure(value: Any, _: Any) -> Any:
        if value in words:
            return value
        try:
            return _scalar(number)(value, number)
        except TypeError:
            choices = " or ".join(f'"{word}"' for word in words)
            raise TypeError(f"expected {_WORDS[number]} or {choices}, got {describe(value)}") from None

    return structure


def _is_homogeneous_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_hook(converter: Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def factory(kind: Any) -> Callable[[Any, Any], Any]:
        arguments = get_args(kind)
        open_ended = len(arguments) == 2 and arguments[1] is Ellipsis

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, list | tuple):
                raise TypeError(f"expected a list, got {describe(value)}")
            if not open_ended and len(value) != len(arguments):
                raise TypeError(f"expected a list of {len(arguments)}, got {len(value)}")
            kinds = [arguments[0]] * len(value) if open_ended else list(arguments)
            return tuple(_each(converter, enumerate(value), kinds, kind))

        return structure

    return factory


def _is_dict(kind: Any) -> bool:
    return get_origin(kind) is dict


def _dict_hook(converter: Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def factory(kind: Any) -> Callable[[Any, Any], Any]:
        item = get_args(kind)[1]

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, dict):
                raise TypeError(f"expected a table, got {describe(value)}")
            return dict(zip(value, _each(converter, value.items(), [item] * len(value), kind), strict=True))

        return structure

    return factory


def _each(converter: Converter, pairs: Any, kinds: list[Any], whole: Any) -> list[Any]:
    results: list[Any] = []
    errors: list[Exception] = []
    for (index, value), kind in zip(pairs, kinds, strict=True):
        try:
            results.append(value if kind is Any else converter.structure(value, kind))
        except Exception as error:
            error.add_note(IterableValidationNote("", index, kind))
            errors.append(error)
    if errors:
        raise IterableValidationError("", errors, whole)
    return results


def _class_hook(converter: Converter) -> Callable[[Any], Callable[[Any, Any], Any]]:
    def factory(kind: Any) -> Callable[[Any, Any], Any]:
        attrs.resolve_types(kind)
        build = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)

        def structure(value: Any, _: Any) -> Any:
            if isinstance(value, kind):
                return value
            if not isinstance(value, dict):
                raise TypeError(f"expected a table, got {describe(value)}")
            return build(_digits_as_words(value, kind), kind)

        return structure

    return factory


def _digits_as_words(value: dict[str, Any], kind: Any) -> dict[str, Any]:
    """A table with words for integers where a key's choices are words of digits: ``resolution = 256``."""
    keys = [field.name for field in attrs.fields(kind) if field.name in value and bounds_of(field).takes_digits]
    return {**value, **{key: _word(value[key]) for key in keys}}


def _word(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_word(item) for item in value]
    return str(value) if type(value) is int else value


def strict_converter() -> Converter:
    """A fresh strict converter for attrs classes; attrs instances pass through where their class is expected."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for kind in (str, int, float, bool):
        converter.register_structure_hook(kind, _scalar(kind))
    converter.register_structure_hook_factory(_is_number_or_word, _number_or_word)
    converter.register_structure_hook_factory(_is_homogeneous_tuple, _tuple_hook(converter))
    converter.register_structure_hook_factory(_is_dict, _dict_hook(converter))
    converter.register_structure_hook_factory(attrs.has, _class_hook(converter))
    return converter


def faults(error: BaseException, path: KeyPath = ()) -> list[Fault]:
    """Every fault inside a structuring error, with its key path."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            path = (*path, note.name)
        elif isinstance(note, IterableValidationNote):
            path = (*path, note.index)
    if isinstance(error, ClassValidationError | IterableValidationError):
        return [fault for inner in error.exceptions for fault in faults(inner, path)]
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)] if error.cl else []
        return [((*path, key), UnknownKey(known)) for key in sorted(error.extra_fields)]
    assert isinstance(error, Exception)
    return [(path, error)]
