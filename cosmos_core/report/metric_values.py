"""What the columns of ``metrics.jsonl`` are shown as: metrics and curves by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["curve", "finite_number", "newest_metrics", "number_text", "step_metrics"]

OWN = {"step", "seconds", "data_wait", "tokens", "tflop"}
"""What a step records that is shown per second, or as a share of the step."""
Curve = list[tuple[int, float | None]]
"""Step and value; None where it was not finite, or not recorded."""


def finite_number(value: Any) -> float | None:
    """A finite number of a record; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if number else None


def number_text(value: float) -> str:
    """Four significant digits; counts and large numbers whole."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.4g}"


def step_metrics(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Everything that a step's record says, with speeds and shares instead of seconds and counts."""
    seconds = finite_number(record.get("seconds"))
    named = {name: finite_number(value) for name, value in record.items() if name not in OWN}
    rates: dict[str, float | None] = {"seconds": seconds}
    for name, column in (("tokens/s", "tokens"), ("tflop/s", "tflop"), ("data wait share", "data_wait")):
        amount = finite_number(record.get(column))
        if column in record:
            rates[name] = amount / seconds if amount is not None and seconds else None
    return {**named, **rates}


def newest_metrics(step: Mapping[str, Any], validation: Mapping[str, Any]) -> dict[str, float]:
    """The newest metrics of a run by name; those of the validation after those of the step."""
    scores = {name: finite_number(value) for name, value in validation.items() if name != "step"}
    steps = {"step": finite_number(step.get("step"))} if step else {}
    shown = {**steps, **(step_metrics(step) if step else {}), **scores}
    return {name: value for name, value in shown.items() if value is not None}


def curve(records: Iterable[Mapping[str, Any]], name: str) -> Curve:
    """A metric over the steps, in the order of the records."""
    return [(record["step"], finite_number(record.get(name))) for record in records]
