"""Scores a model's answers with metrics: core's, plugins' and the user's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import field, frozen

from cosmos_core.data.samples import Answer
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.descriptors import MetricSpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.plugin.status import describe_failure
from cosmos_core.refs import Ref

__all__ = ["Metric", "Scored", "Scoring", "rank_correlation"]

Column = tuple[float | None, ...]
"""A number for each answer, or None."""


@frozen
class Metric:
    """A metric that is loaded; the fields are those of MetricSpec."""

    name: str
    metric: Callable[[list[Answer]], Any]
    errors: tuple[str, ...] = ()
    report: Callable[[list[Answer], Path], object] | None = None


@frozen
class Scored:
    """values: by name, and by name and category. columns: a number for each answer. problems: metrics that failed."""

    values: dict[str, float] = field(factory=dict)
    columns: dict[str, Column] = field(factory=dict)
    problems: list[Problem] = field(factory=list)


@frozen
class Scoring:
    """How answers are scored. own: whether metrics are made for all of the data, so that every sample is answered."""

    metrics: tuple[Metric, ...] = ()
    own: bool = False

    @classmethod
    def of(cls, datasets: Collection[str], plugins: PluginManager, more: Sequence[str] = ()) -> Scoring:
        """The metrics made for these datasets, the general ones where a dataset has none, and `more`.

        more: ``package.module:function`` each.

        Raises UserError with every one that cannot be imported.
        """
        every = plugins.registry.all(MetricSpec)
        names = {name.rpartition(":")[2] for name in datasets}
        own = [spec for spec in every if names & set(spec.datasets)]
        is_own = names <= {name for spec in own for name in spec.datasets}
        metrics, problems = [], []
        for spec in [*own, *(spec for spec in every if not spec.datasets and not is_own)]:
            try:
                report = spec.report.load() if spec.report is not None else None
                metrics.append(Metric(spec.name, spec.metric.load(), spec.errors, report))
            except Exception as error:
                problems.append(Problem(message=f"metric '{spec.name}': {describe_failure(error)}"))
        for text in more:
            try:
                name = text.rpartition(":")[2].rpartition(".")[2]
                if name in {metric.name for metric in metrics}:
                    raise ValueError(f"another metric is called {name} too")
                metrics.append(Metric(name, _function(text)))
            except Exception as error:
                hint = "give package.module:function; modules in the current folder are found too"
                problems.append(Problem(message=f"--metric {text}: {describe_failure(error)}", hint=hint))
        if problems:
            raise UserError("a metric cannot be used; nothing was evaluated", problems)
        return cls(tuple(metrics), is_own)

    @property
    def errors(self) -> set[str]:
        """Values that are worse the larger they are."""
        return {name for metric in self.metrics for name in metric.errors}

    def score(self, answers: list[Answer], categories: Mapping[str, str], others: Collection[str] = ()) -> Scored:
        """Values of all metrics. categories: of samples by key. others: names of values that are no metric's.

        A metric that fails is a problem, not an error, and so is one that gives a value which is there already.
        """
        scored = Scored()
        groups = sorted({categories.get(answer.key, "") for answer in answers} - {""})
        for metric in self.metrics:
            try:
                values = _values(metric, answers)
                means = _means(values)
                for group in groups:
                    members = [answer for answer in answers if categories.get(answer.key) == group]
                    named = {f"{name}_{group}": value for name, value in _values(metric, members).items()}
                    means.update(_means(named))
                if twice := sorted(means.keys() & {*others, *scored.values}):
                    raise ValueError(f"there is another value called {twice[0]}; give it another name")
                scored.columns.update({name: value for name, value in values.items() if isinstance(value, tuple)})
                scored.values.update(means)
            except Exception as error:
                message = f"metric '{metric.name}' failed: {describe_failure(error)}"
                scored.problems.append(Problem(message=message))
        return scored

    def report(self, answers: list[Answer], folder: Path) -> Iterator[Problem]:
        """Write the metrics' files; yields what failed."""
        for metric in self.metrics:
            try:
                if metric.report is not None:
                    metric.report(answers, folder)
            except Exception as error:
                yield Problem(message=f"the report of metric '{metric.name}' failed: {describe_failure(error)}")


def _function(text: str) -> Callable[[list[Answer]], Any]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    function: Callable[[list[Answer]], Any] = Ref(text).load()
    if not callable(function):
        raise TypeError("it is no function")
    return function


def _values(metric: Metric, answers: list[Answer]) -> dict[str, float | Column]:
    """What a metric returns, checked; alone, a number or a list is called after the metric. Raises TypeError."""
    returned = metric.metric(answers)
    named = returned if isinstance(returned, Mapping) else {metric.name: returned}
    values: dict[str, float | Column] = {}
    for name, value in named.items():
        if isinstance(value, int | float | np.number):
            values[str(name)] = float(value)
            continue
        column = tuple(None if number is None else float(number) for number in value)
        if len(column) != len(answers):
            raise TypeError(f"'{name}' has {len(column)} values for {len(answers)} answers")
        values[str(name)] = column
    return values


def _means(values: Mapping[str, float | Column]) -> dict[str, float]:
    """Lists averaged over what is not None; without such a value there is none."""
    means = {}
    for name, value in values.items():
        numbers = [value] if isinstance(value, float) else [number for number in value if number is not None]
        if numbers:
            means[name] = sum(numbers) / len(numbers)
    return means


def rank_correlation(predicted: Sequence[float], true: Sequence[float]) -> float | None:
    """Spearman's coefficient, ties at their mean rank; None where either does not vary."""
    first, second = (_ranks(np.asarray(values, dtype=float)) for values in (predicted, true))
    if len(first) < 2 or first.std() == 0 or second.std() == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    ordered = np.sort(values)
    ranks: np.ndarray[Any, Any] = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return (ranks - 1) / 2
