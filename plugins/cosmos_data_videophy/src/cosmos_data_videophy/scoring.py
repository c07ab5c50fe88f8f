"""Metrics of rating answers: how well predictions agree with the references."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_core.data import Answer
from cosmos_core.train import rank_correlation

__all__ = ["draw_confusion", "is_no_rating", "rating", "ratings"]

GRADES = (1, 2, 3, 4, 5)
_RATING = re.compile(r"\b([1-5])\b")


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


def ratings(answers: Sequence[Answer]) -> dict[str, float | list[float | None]]:
    """accuracy, unreadable, mean_absolute_error, and rank_correlation of the readable answers.

    An answer without a rating counts as wrong. Answers that the data has no rating for are left out; unscored is their
    number, if there are any.
    """
    pairs = [(rating(answer.prediction), rating(answer.reference)) for answer in answers]
    readable = [(own, true) for own, true in pairs if own is not None and true is not None]
    values: dict[str, float | list[float | None]] = {
        "accuracy": [None if true is None else float(own == true) for own, true in pairs],
        "unreadable": [None if true is None else float(own is None) for own, true in pairs],
        "mean_absolute_error": [None if own is None or true is None else abs(own - true) for own, true in pairs],
    }
    correlation = rank_correlation([own for own, _ in readable], [true for _, true in readable])
    unscored = sum(true is None for _, true in pairs)
    optional = {"rank_correlation": correlation, "unscored": unscored or None}
    return values | {name: value for name, value in optional.items() if value is not None}


def draw_confusion(answers: Sequence[Answer], folder: Path) -> None:
    """``confusion.png``: ratings of the data in rows, of the model in columns."""
    counts = np.zeros((len(GRADES), len(GRADES) + 1), int)
    for answer in answers:
        true, own = rating(answer.reference), rating(answer.prediction)
        if true is not None:
            counts[true - 1, len(GRADES) if own is None else own - 1] += 1
    if counts.any():
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
