"""How well ratings read from answers agree with the true ones."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from cosmos_core.data import Answer

__all__ = ["GRADES", "Rated", "figures", "is_no_grade", "rating", "read", "write_report"]

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
    found = _RATING.search(text)
    return int(found[1]) if found else None


def is_no_grade(text: str) -> bool:
    """Whether it is a number, and none from 1 to 5; words are neither."""
    try:
        return float(text) not in GRADES
    except ValueError:
        return False


def read(answers: Sequence[Answer], categories: dict[str, str]) -> tuple[list[Rated], list[str]]:
    """Answers whose truth is a rating, and the keys of the others."""
    rated, others = [], []
    for answer in answers:
        reference = rating(answer.reference)
        if reference is None:
            others.append(answer.key)
        else:
            rated.append(Rated(answer.key, rating(answer.prediction), reference, categories.get(answer.key, "")))
    return rated, others


def figures(rated: Sequence[Rated]) -> dict[str, float]:
    """accuracy, unreadable share, mean absolute error and rank correlation of what was readable.

    All but the share also as <name>_<category>. The error and the correlation are left out when nothing, or no
    variation, was readable.
    """
    unreadable = sum(one.prediction is None for one in rated) / len(rated)
    found = {"accuracy": _accuracy(rated), "unreadable": unreadable, **_agreement(rated)}
    for category in sorted({one.category for one in rated} - {""}):
        among = [one for one in rated if one.category == category]
        of_category = {"accuracy": _accuracy(among), **_agreement(among)}
        found |= {f"{name}_{category}": value for name, value in of_category.items()}
    return found


def _agreement(rated: Sequence[Rated]) -> dict[str, float]:
    """mean_absolute_error and rank_correlation, as far as the readable answers give them."""
    pairs = np.array([(one.prediction, one.reference) for one in rated if one.prediction is not None]).reshape(-1, 2)
    if not len(pairs):
        return {}
    found = {"mean_absolute_error": float(np.abs(pairs[:, 0] - pairs[:, 1]).mean())}
    predicted, true = (_ranks(column) for column in pairs.T)
    if predicted.std() > 0 and true.std() > 0:
        found["rank_correlation"] = float(np.corrcoef(predicted, true)[0, 1])
    return found


def _accuracy(rated: Sequence[Rated]) -> float:
    return sum(one.prediction == one.reference for one in rated) / len(rated)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties at their mean, as Spearman's coefficient takes them."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def write_report(rated: Sequence[Rated], folder: Path) -> None:
    """``answers.jsonl``, and ``confusion.png`` with truth in rows and answers in columns."""
    lines = [
        json.dumps({"key": one.key, "prediction": one.prediction, "reference": one.reference, "category": one.category})
        + "\n"
        for one in rated
    ]
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8")
    counts = np.zeros((len(GRADES), len(GRADES) + 1), int)
    for one in rated:
        counts[one.reference - 1, len(GRADES) if one.prediction is None else one.prediction - 1] += 1
    _picture(counts).savefig(folder / "confusion.png", dpi=110)


def _picture(counts: np.ndarray) -> Any:
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
