"""attrs fields that carry their help text, bounds, choices and unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs

__all__ = ["OnResume", "default_of", "on_resume_of", "option", "required", "section"]

OnResume = Literal["refuse", "list"]
"""What happens to a run that resumes with another value: "refuse" is an error, "list" logs the change."""


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


def default_of(field: attrs.Attribute[Any]) -> Any:
    """A field's default, from its factory if it has one; attrs.NOTHING for a required field."""
    default: Any = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def on_resume_of(field: attrs.Attribute[Any], inherited: OnResume) -> OnResume:
    """A field's rule for a change on resume; `inherited` from its section when it has none.

    Any unknown rule counts as 'refuse', the safe one.
    """
    return "list" if (field.metadata.get("on_resume") or inherited) == "list" else "refuse"


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    on_resume: OnResume | None = None,
) -> Any:
    """A field with a default. `low` and `high` are inclusive; for tuples every element is checked.

    on_resume: whether a run may resume with another value. Default: the section's rule; below ``[model]`` 'refuse',
    since a change there usually alters what saved tensors mean; elsewhere 'list'.
    """
    return attrs.field(
        default=default,
        validator=_checks(choices, low, high),
        metadata={"help": help, "unit": unit, "choices": choices, "min": low, "max": high, "on_resume": on_resume},
    )


def required(
    help: str,
    *,
    unit: str = "",
    choices: Sequence[Any] | None = None,
    low: float | None = None,
    high: float | None = None,
    on_resume: OnResume | None = None,
) -> Any:
    """A field that a recipe must set."""
    return attrs.field(
        validator=_checks(choices, low, high),
        metadata={"help": help, "unit": unit, "choices": choices, "min": low, "max": high, "on_resume": on_resume},
    )


def section(cls: type, help: str, *, on_resume: OnResume | None = None) -> Any:
    """A nested table; absent, its class defaults. on_resume: rule for its keys that have none."""
    return attrs.field(factory=cls, metadata={"help": help, "on_resume": on_resume})
