"""Files of a validation's answers, and their metrics: ``answers.jsonl``, ``answers.html``, the metrics' own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from attrs import frozen

from cosmos_core.data.samples import Answer
from cosmos_core.errors import Problem, writing
from cosmos_core.train.answer_page import Row, write_page
from cosmos_core.train.scores import Scoring

__all__ = ["Shown", "score_and_write"]


@frozen
class Shown:
    """What the page shows of a sample beside its answer."""

    question: str
    pictures: tuple[str, ...]


def score_and_write(
    answers: list[Answer],
    scoring: Scoring,
    categories: Mapping[str, str],
    shown: Mapping[str, Shown],
    losses: Mapping[str, float],
    folder: Path,
) -> tuple[dict[str, float], list[Problem]]:
    """Values of all metrics, and the metrics that failed.

    shown: by key, of the samples that are pictured. losses: more values for the page.
    """
    scored = scoring.score(answers, categories, losses)
    rows = [
        Row(
            answer=answer,
            category=categories.get(answer.key, ""),
            question=shown[answer.key].question if answer.key in shown else "",
            pictures=shown[answer.key].pictures if answer.key in shown else (),
            values={name: column[number] for name, column in scored.columns.items()},
        )
        for number, answer in enumerate(answers)
    ]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_lines(rows, folder)
        write_page(folder / "answers.html", "Answers", {**losses, **scored.values}, rows, scoring.errors)
    return scored.values, [*scored.problems, *scoring.report(answers, folder)]


def _write_lines(rows: Sequence[Row], folder: Path) -> None:
    """One object a line: key, what the model said, what the data says, the sample's category, values of metrics."""
    lines = []
    for row in rows:
        extra = {"category": row.category} if row.category else {}
        record = {**asdict(row.answer), **extra, **({"scores": dict(row.values)} if row.values else {})}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    (folder / "answers.jsonl").write_text("".join(lines), encoding="utf-8", errors="replace")
