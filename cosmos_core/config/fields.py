"""attrs fields that carry their help text, bounds, choices and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

__all__ = ["option", "required", "section"]


def _checks(choices: Sequence[Any] | None, low: float | None, high: float | None) -> Callable[..., None]:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        for item in value if isinstance(value, tuple) else (value,):
            if item is None:
                continue
            if choices is not None and item not in choices:
                allowed = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"must be one of {allowed}; got {item!r}")
            if low is not None and item < low:
                raise ValueError(f"must be at least {low}; got {item!r}")
            if high is not None and item > high:
                raise ValueError(f"must be at most {high}; got {item!r}")

    return check


def _metadata(
    help: str, unit: str, choices: Sequence[Any] | None, low: float | None, high: float | None
) -> dict[str, Any]:
    return {"help": help, "unit": unit, "choices": choices, "min": low, "max": high}


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field with a default. `low` and `high` are inclusive; for tuples every element is checked."""
    return attrs.field(
        default=default,
        validator=_checks(choices, low, high),
        metadata=_metadata(help, unit, choices, low, high),
    )


def required(
    help: str,
    *,
    unit: str = "",
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field that a recipe must set."""
    return attrs.field(validator=_checks(choices, low, high), metadata=_metadata(help, unit, choices, low, high))


def section(cls: type, help: str) -> Any:
    """A nested table whose absence means its class defaults."""
    return attrs.field(factory=cls, metadata=_metadata(help, "", None, None, None))
