"""Metrics of rating answers: how well predictions agree with the references."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen

from cosmos_core.data import Answer

__all__ = ["GRADES", "Rated", "is_no_rating", "metrics", "rate", "rating", "write_report"]

GRADES = (1, 2, 3, 4, 5)
_RATING = re.compile(r"\b([1-5])\b")


@frozen
class Rated:
    """An answer as a number.

    prediction: None when no rating could be read, which counts as wrong. category: '' for none.
    """

    key: str
    prediction: int | None
    reference: int
    category: str


def rating(text: str) -> int | None:
    """The first stand-alone digit from 1 to 5."""
    match = _RATING.search(text)
    return int(match[1]) if match else None


def is_no_rating(text: str) -> bool:
    """Whether a text is a number other than 1 to 5; False for words."""
    try:
        return float(text) not in GRADES
    except ValueError:
        return False


def rate(answers: Sequence[Answer], categories: dict[str, str]) -> tuple[list[Rated], list[str]]:
    """The answers whose reference is a rating, and the keys of the others."""
    rated, unscored = [], []
    for answer in answers:
        reference = rating(answer.reference)
        if reference is None:
            unscored.append(answer.key)
        else:
            rated.append(Rated(answer.key, rating(answer.prediction), reference, categories.get(answer.key, "")))
    return rated, unscored


def metrics(rated: Sequence[Rated]) -> dict[str, float]:
    """accuracy, unreadable (a share), mean_absolute_error and rank_correlation of the readable answers.

    All but `unreadable` also as <name>_<category>. The error needs a readable answer, the correlation also some
    variation; without, they are left out.
    """
    unreadable = sum(answer.prediction is None for answer in rated) / len(rated)
    values = {"accuracy": _accuracy(rated), "unreadable": unreadable, **_agreement(rated)}
    for category in sorted({answer.category for answer in rated} - {""}):
        members = [answer for answer in rated if answer.category == category]
        of_category = {"accuracy": _accuracy(members), **_agreement(members)}
        values |= {f"{name}_{category}": value for name, value in of_category.items()}
    return values


def _agreement(rated: Sequence[Rated]) -> dict[str, float]:
    """mean_absolute_error and rank_correlation, as far as the readable answers determine them."""
    readable = [answer for answer in rated if answer.prediction is not None]
    pairs = np.array([(answer.prediction, answer.reference) for answer in readable]).reshape(-1, 2)
    if not len(pairs):
        return {}
    values = {"mean_absolute_error": float(np.abs(pairs[:, 0] - pairs[:, 1]).mean())}
    predicted, true = (_ranks(column) for column in pairs.T)
    if predicted.std() > 0 and true.std() > 0:
        values["rank_correlation"] = float(np.corrcoef(predicted, true)[0, 1])
    return values


def _accuracy(rated: Sequence[Rated]) -> float:
    return sum(answer.prediction == answer.reference for answer in rated) / len(rated)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties at their mean, for Spearman's coefficient."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def write_report(rated: Sequence[Rated], folder: Path) -> None:
    """``ratings.jsonl``, and ``confusion.png`` with references in rows and predictions in columns."""
    lines = [json.dumps(asdict(answer)) + "\n" for answer in rated]
    (folder / "ratings.jsonl").write_text("".join(lines), encoding="utf-8")
    counts = np.zeros((len(GRADES), len(GRADES) + 1), int)
    for answer in rated:
        column = len(GRADES) if answer.prediction is None else answer.prediction - 1
        counts[answer.reference - 1, column] += 1
    _confusion_plot(counts).savefig(folder / "confusion.png", dpi=110)


def _confusion_plot(counts: np.ndarray) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(
            column, row, str(count), ha="center", va="center", color="white" if shares[row, column] > 0.5 else "black"
        )
    axes.set_xticks(range(len(GRADES) + 1), [*map(str, GRADES), "none"])
    axes.set_yticks(range(len(GRADES)), list(map(str, GRADES)))
    axes.set_xlabel("answer")
    axes.set_ylabel("truth")
    return figure
