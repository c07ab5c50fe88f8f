"""attrs fields that carry their help text, bounds, choices and unit."""

from __future__ import annotations

from typing import Any, Literal, Unpack, get_args

import attrs

from cosmos_core.config.bounds import Bounds, BoundsOptions

__all__ = ["OnResume", "Unless", "bounds_of", "default_of", "on_resume_of", "option", "required", "section"]

OnResume = Literal["refuse", "refuse_training", "list"]
"""What happens to a run that resumes with another value.

"refuse": an error, since it makes another model. "refuse_training": an error, since it trains in another way; an
evaluation takes the new value, since the model is the same. "list": the change is logged.
"""

Unless = tuple[str, tuple[Any, ...]]
"""Another key of the same section, and its values with which a key has no effect."""


def bounds_of(field: attrs.Attribute[Any]) -> Bounds:
    """A field's bounds; none for a field without."""
    bounds = field.metadata.get("bounds")
    return bounds if isinstance(bounds, Bounds) else Bounds()


def default_of(field: attrs.Attribute[Any]) -> Any:
    """A field's default, from its factory if it has one; attrs.NOTHING for a required field."""
    default: Any = field.default
    return default.factory() if isinstance(default, attrs.Factory) else default  # type: ignore[arg-type]


def on_resume_of(field: attrs.Attribute[Any], inherited: OnResume) -> OnResume:
    """A field's rule for a change on resume; `inherited` from its section when it has none.

    Any unknown rule counts as 'refuse', the safe one.
    """
    rule: OnResume = field.metadata.get("on_resume") or inherited
    return rule if rule in get_args(OnResume) else "refuse"


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    one_value: bool = False,
    unless: Unless | None = None,
    on_resume: OnResume | None = None,
    **bounds: Unpack[BoundsOptions],
) -> Any:
    """A field with a default. bounds: of `Bounds`, e.g. ``low=0``; each entry of a list or mapping is checked.

    one_value: a mapping that a recipe or an override replaces as a whole, such as probabilities. Others merge.
    unless: a key of the section, and its values with which this one has no effect; the plan then warns.
    on_resume: whether a run may resume with another value (`OnResume`). Default: the section's rule; below ``[model]``
    'refuse', since a change there usually alters what saved tensors mean; elsewhere 'list'.
    """
    allowed = Bounds(**bounds)
    about = {"help": help, "unit": unit, "bounds": allowed, "one_value": one_value, "unless": unless}
    value = {"factory": lambda: dict(default)} if isinstance(default, dict) else {"default": default}
    return attrs.field(**value, validator=allowed.check, metadata={**about, "on_resume": on_resume})


def required(help: str, *, unit: str = "", on_resume: OnResume | None = None, **bounds: Unpack[BoundsOptions]) -> Any:
    """A field that a recipe must set. bounds: fields of `Bounds`."""
    allowed = Bounds(**bounds)
    about = {"help": help, "unit": unit, "bounds": allowed, "on_resume": on_resume}
    return attrs.field(validator=allowed.check, metadata=about)


def section(cls: type, help: str, *, unless: Unless | None = None, on_resume: OnResume | None = None) -> Any:
    """A nested table; absent, its class defaults. unless: see `option`. on_resume: rule for its keys without one."""
    return attrs.field(factory=cls, metadata={"help": help, "unless": unless, "on_resume": on_resume})
