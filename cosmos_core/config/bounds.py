"""What values a key may have: choices, numeric bounds, regular expressions, keys of a mapping."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import ge, gt, le, lt
from typing import Any, TypedDict

from attrs import field, frozen

from cosmos_core.config.locate import KeyPath

__all__ = ["Bounds", "BoundsOptions", "InvalidValues"]


class InvalidValues(ValueError):
    """Raised by a field's check. faults: path inside the field's value (index or key; () for itself), and message."""

    def __init__(self, faults: Sequence[tuple[KeyPath, str]]) -> None:
        super().__init__("; ".join(message for _, message in faults))
        self.faults = tuple(faults)


class BoundsOptions(TypedDict, total=False):
    """The arguments of `Bounds`, for functions that pass them on."""

    choices: Sequence[Any] | None
    low: float | None
    high: float | None
    above: float | None
    below: float | None
    also: Sequence[Any]
    regex: bool
    keys: Sequence[str] | None


def _optional_tuple(values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)


@frozen(kw_only=True)
class Bounds:
    """Allowed values of a field, or of each entry of its list or mapping. None: no bound.

    choices: the only values. low, high: inclusive. above, below: exclusive. also: values outside of the bounds.
    regex: it must compile as a regular expression. keys: the only keys of a mapping.
    """

    choices: tuple[Any, ...] | None = field(default=None, converter=_optional_tuple)
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    also: tuple[Any, ...] = field(default=(), converter=tuple)
    regex: bool = False
    keys: tuple[str, ...] | None = field(default=None, converter=_optional_tuple)

    def check(self, instance: Any, attribute: Any, value: Any) -> None:
        """The field's attrs validator. Raises InvalidValues."""
        faults = [(path, message) for path, item in _entries(value) if (message := self._fault(item))]
        if self.keys is not None:
            allowed = ", ".join(map(repr, self.keys))
            faults += [((key,), f"is no known key; known: {allowed}") for key in value if key not in self.keys]
        if faults:
            raise InvalidValues(faults)

    @property
    def takes_digits(self) -> bool:
        """Whether a choice is a word of digits, so that an integer is taken for that word."""
        return any(isinstance(choice, str) and choice.isdecimal() for choice in self.choices or ())

    @property
    def text(self) -> str:
        """The bounds in words; "" without any."""
        if self.choices is not None:
            return "one of " + ", ".join(map(str, self.choices))
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}" + self._besides
        return " and ".join(f"{word} {bound:g}" for word, bound, _ in self._comparisons()) + self._besides

    def _fault(self, item: Any) -> str:
        """What is wrong with one value; "" if nothing."""
        if item is None or item in self.also:
            return ""
        if self.choices is not None and item not in self.choices:
            return f"must be one of {', '.join(map(repr, self.choices))}; got {item!r}"
        for word, bound, holds in self._comparisons():
            if not holds(item, bound):
                return f"must be {word} {bound:g}{self._besides}; got {item!r}"
        return _regex_fault(item) if self.regex else ""

    def _comparisons(self) -> list[tuple[str, float, Callable[[Any, Any], bool]]]:
        every = (
            ("at least", self.low, ge),
            ("above", self.above, gt),
            ("at most", self.high, le),
            ("below", self.below, lt),
        )
        return [(word, bound, holds) for word, bound, holds in every if bound is not None]

    @property
    def _besides(self) -> str:
        return "".join(f", or {value}" for value in self.also)


def _entries(value: Any) -> list[tuple[KeyPath, Any]]:
    """A value's entries with their index or key; of a single value itself."""
    if isinstance(value, tuple):
        return [((index,), item) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return [((key,), item) for key, item in value.items()]
    return [((), value)]


def _regex_fault(pattern: str) -> str:
    if not pattern:
        return "is empty, which matches every name; write '.*' where that is meant"
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{pattern!r} is not a regular expression: {error}"
    return ""
