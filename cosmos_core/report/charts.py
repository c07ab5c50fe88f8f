"""The charts of the page: one for each metric, with a line for each run."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from markupsafe import Markup

from cosmos_core.report.metric_values import Curve, curve, step_metrics
from cosmos_core.report.metrics_file import Metrics
from cosmos_core.report.svg import Line, line_chart

__all__ = ["Chart", "charts_of"]

TITLES = {
    "losses": "loss",
    "loss": "training loss",
    "val_loss": "validation loss",
    "lr": "learning rate",
    "grad_norm": "gradient norm before clipping",
    "spike": "spikes: spreads above the median of loss or gradient norm",
    "tokens/s": "tokens per second",
    "tflop/s": "model TFLOP per second",
    "data wait share": "share of the step spent waiting for data",
    "seconds": "seconds per step",
    "memory_gib": "peak memory of rank 0, GiB",
    "pack_filled": "share of packs that is filled",
}
"""In the order of the page; other metrics follow under their own names."""

Run = tuple[str, Metrics]


@frozen
class Chart:
    """A chart. lines: name and colour of each line, for its legend; empty where a page has one run."""

    title: str
    svg: Markup
    lines: list[tuple[str, int]]


def charts_of(runs: Sequence[Run]) -> list[Chart]:
    """Every metric with at least one finite value; with one run both losses share a chart."""
    curves = _step_curves(runs)
    validations = {
        name: {run: curve(metrics.validations, name) for run, metrics in runs}
        for name in dict.fromkeys(name for _, metrics in runs for record in metrics.validations for name in record)
        if name != "step" and name not in curves
    }
    colors = {run: number for number, (run, _) in enumerate(runs)}
    drawn: dict[str, list[Line]] = {}
    for name, of_runs in curves.items():
        dots = name == "spike"  # Few steps have one.
        drawn[name] = [Line(run, values, colors[run], dots=dots) for run, values in of_runs.items()]
    for name, of_runs in validations.items():
        drawn[name] = [Line(run, values, colors[run], dots=True) for run, values in of_runs.items() if values]
    if len(runs) == 1 and "loss" in drawn and "val_loss" in drawn:
        (training,), (validation,) = drawn["loss"], drawn.pop("val_loss")
        del drawn["loss"]
        drawn["losses"] = [Line("training", training.curve), Line("validation", validation.curve, 1, dots=True)]
    order = [name for name in TITLES if name in drawn] + [name for name in drawn if name not in TITLES]
    charts = [_chart(TITLES.get(name, name), drawn[name], legend=len(runs) > 1 or name == "losses") for name in order]
    return [chart for chart in charts if chart.svg]


def _step_curves(runs: Sequence[Run]) -> dict[str, dict[str, Curve]]:
    """Metric -> run -> its curve, for every metric that some step has."""
    curves: dict[str, dict[str, Curve]] = {}
    for run, metrics in runs:
        for record in metrics.steps:
            for name, value in step_metrics(record).items():
                curves.setdefault(name, {}).setdefault(run, []).append((record["step"], value))
    return curves


def _chart(title: str, lines: Sequence[Line], *, legend: bool) -> Chart:
    names = [(line.name, line.color) for line in lines if any(value is not None for _, value in line.curve)]
    return Chart(title, Markup(line_chart(lines, title)), names if legend else [])
