"""Rows of VideoPhy-2 to files, many at a time; the manifest, and what failed, at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Event

from attrs import frozen
from rich.progress import Progress

from cosmos_core.data import UnreadableSample
from cosmos_core.errors import Problem, UserError
from cosmos_data_videophy.filling import MANIFEST, Split
from cosmos_data_videophy.question import RUBRIC, YES_OR_NO, conversation
from cosmos_data_videophy.tables import Row, find_table, read_rows
from cosmos_data_videophy.writing import entry, write_json

__all__ = ["Report", "Wanted", "materialise"]

MISSING = ("", "nan", "none", "null")


@frozen(kw_only=True)
class Wanted:
    """split: 'train' or 'val'. source: a local table, or a folder with one and perhaps the videos; None: the Hub."""

    split: str
    output: Path
    source: Path | None
    score: str
    caption: bool
    question: str | None
    limit: int | None
    workers: int


@frozen
class Report:
    """rows: asked for; written: in the manifest; failed: listed in failures.jsonl."""

    rows: int
    written: int
    failed: int


@frozen
class _Outcome:
    number: int
    row: Row
    failure: str | None


def materialise(wanted: Wanted) -> Report:
    """Write one split; the manifest comes last. Raises UserError when there is no table, or nothing could be had."""
    table = find_table(wanted.source, wanted.split)
    rows = list(islice(read_rows(table, ("video_url", wanted.score)), wanted.limit))
    folder = wanted.output / f"videophy2_{wanted.split}"
    outcomes = _filled(rows, wanted, Split(folder, table.folder, Event()))
    failures = [one for one in outcomes if one.failure is not None]
    lines = [
        json.dumps({"row": one.number, "url": one.row.get("video_url", ""), "reason": one.failure}) for one in failures
    ]
    (folder / "failures.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    manifest = [entry(one.number, one.row.get("category", "")) for one in outcomes if one.failure is None]
    if not manifest:
        message = failures[0].failure or "" if failures else "the table has no rows"
        raise UserError(
            "no row could be prepared; no manifest was written", [Problem(message=message, file=str(table.files[0]))]
        )
    write_json(folder / MANIFEST, manifest)
    return Report(len(rows), len(manifest), len(failures))


def _filled(rows: Sequence[Row], wanted: Wanted, split: Split) -> list[_Outcome]:
    """Rows in order, each as files or with the reason why not. When it is interrupted, no thread is waited for."""
    split.prepare()
    outcomes = []
    pool = ThreadPoolExecutor(wanted.workers)
    try:
        with Progress() as progress:
            task = progress.add_task(f"videophy2_{wanted.split}", total=len(rows))
            jobs = [pool.submit(_one, number, row, wanted, split) for number, row in enumerate(rows, start=1)]
            for job in jobs:
                outcomes.append(job.result())
                progress.advance(task)
    finally:
        split.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return outcomes


def _one(number: int, row: Row, wanted: Wanted, split: Split) -> _Outcome:
    question = wanted.question or (YES_OR_NO if wanted.score == "joint" else RUBRIC)
    caption = _caption(row) if wanted.caption else None
    try:
        dialog = conversation(question, _answer(row, wanted.score), caption)
        split.put_video(number, row.get("video_url", "").strip())
        split.put_conversation(number, dialog)
    except (ValueError, OSError, UnreadableSample) as error:
        return _Outcome(number, row, getattr(error, "reason", None) or str(error) or type(error).__name__)
    return _Outcome(number, row, None)


def _caption(row: Row) -> str | None:
    """The longer caption where there is one; None without any. Blank cells and those of MISSING hold none."""
    texts = (row.get(field, "").strip() for field in ("upsampled_caption", "caption"))
    return next((text for text in texts if text.lower() not in MISSING), None)


def _answer(row: Row, field: str) -> str:
    """'1' to '5', or 'yes' and 'no'. Raises ValueError."""
    text = row.get(field, "").strip()
    if text.lower() in MISSING:
        raise ValueError(f"no score in column '{field}'")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"the score {text!r} is no number") from None
    if field == "joint":
        return "yes" if value else "no"
    if value not in (1, 2, 3, 4, 5):
        raise ValueError(f"the score {text} is not 1 to 5")
    return str(int(value))
