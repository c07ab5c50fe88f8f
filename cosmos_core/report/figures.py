"""What the columns of ``metrics.jsonl`` are worth showing as: figures and curves by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["curve", "figure", "figure_text", "last_figures", "step_figures"]

OWN = {"step", "seconds", "data_wait", "tokens", "tflop"}
"""What a step records that is shown per second, or as a share of the step."""
Curve = list[tuple[int, float | None]]
"""Step and value; None where it was not finite, or not recorded."""


def figure(value: Any) -> float | None:
    """A finite number of a record; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def figure_text(value: float) -> str:
    """Four digits that say something; counts and large figures whole."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def step_figures(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Everything that a step's record says, with speeds and shares instead of seconds and counts."""
    seconds = figure(record.get("seconds"))
    named = {name: figure(value) for name, value in record.items() if name not in OWN}
    rates: dict[str, float | None] = {"seconds": seconds}
    for name, column in (("tokens/s", "tokens"), ("tflop/s", "tflop"), ("data wait share", "data_wait")):
        amount = figure(record.get(column))
        if column in record:
            rates[name] = amount / seconds if amount is not None and seconds else None
    return {**named, **rates}


def last_figures(step: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, float]:
    """The newest figures of a run by name; those of the validation after those of the step."""
    scores = {name: figure(value) for name, value in validation.items() if name != "step"}
    steps = {"step": figure(step.get("step"))} if step else {}
    shown = {**steps, **(step_figures(step) if step else {}), **scores}
    return {name: value for name, value in shown.items() if value is not None}


def curve(records: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """A figure over the steps, in the order of the records."""
    return [(record["step"], figure(record.get(name))) for record in records]
