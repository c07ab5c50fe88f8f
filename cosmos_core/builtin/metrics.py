"""General metrics of answers: the same words, the same letter, a close number."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from cosmos_core.data.samples import Answer
from cosmos_core.train.scores import rank_correlation

__all__ = ["choice", "exact_match", "number"]

_LETTER = re.compile(r"\(?([A-Z])(?:\)?[.:]?|[).:]\s.*)", re.DOTALL)
"""All of an answer: "B", "(B)", "B.", "B) the cat"."""
_NAMED = re.compile(r"\b(?i:answer|option|choice)(?: is)?:? \(?([A-Z])\b")
"""Within an answer: "the answer is B"."""
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")

T = TypeVar("T")
Values = dict[str, float | list[float] | list[float | None]]


def exact_match(answers: Sequence[Answer]) -> Values:
    """Share of answers that are the data's, but for case, space around them and a full stop at the end."""
    return {"exact_match": [float(_plain(answer.prediction) == _plain(answer.reference)) for answer in answers]}


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()


def choice(answers: Sequence[Answer]) -> Values:
    """Share of right letters, where every answer in the data is a letter, such as "B" or "B. the cat"."""
    letters = _all(_letter, [answer.reference for answer in answers])
    if letters is None:
        return {}
    predicted = (_letter(answer.prediction) or _named(answer.prediction) for answer in answers)
    return {"choice_accuracy": [float(own == letter) for own, letter in zip(predicted, letters, strict=True)]}


def _letter(text: str) -> str | None:
    match = _LETTER.fullmatch(text.strip())
    return match[1] if match else None


def _named(text: str) -> str | None:
    match = _NAMED.search(text)
    return match[1] if match else None


def number(answers: Sequence[Answer]) -> Values:
    """Error and rank correlation of the first number of an answer, where every answer in the data is a number.

    unreadable: share of answers without a number; the other values leave them out.
    """
    true = _all(_whole_number, [answer.reference for answer in answers])
    if true is None:
        return {}
    predicted = [_first_number(answer.prediction) for answer in answers]
    pairs = [(own, value) for own, value in zip(predicted, true, strict=True) if own is not None]
    values: Values = {
        "mean_absolute_error": [
            None if own is None else abs(own - value) for own, value in zip(predicted, true, strict=True)
        ],
        "unreadable": [float(own is None) for own in predicted],
    }
    correlation = rank_correlation([own for own, _ in pairs], [value for _, value in pairs])
    return values if correlation is None else {**values, "rank_correlation": correlation}


def _whole_number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text.strip().rstrip("%. "))
    return float(match[0].replace(",", "")) if match else None


def _first_number(text: str) -> float | None:
    match = _NUMBER.search(text)
    return float(match[0].replace(",", "")) if match else None


def _all(read: Callable[[str], T | None], texts: Sequence[str]) -> list[T] | None:
    """What is read from each text; None if there are none, or one cannot be read."""
    values = [value for text in texts if (value := read(text)) is not None]
    return values if values and len(values) == len(texts) else None
