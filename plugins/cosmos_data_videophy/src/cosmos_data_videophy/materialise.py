"""Writes rows of VideoPhy-2 as files, many at a time; the manifest and the failures come last."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from attrs import frozen

from cosmos_core.console import progress
from cosmos_core.data import UnreadableSample
from cosmos_core.errors import Problem, UserError, make_folder
from cosmos_core.text_files import EMPTY_CELLS
from cosmos_data_videophy.filling import MANIFEST, Split, shared_names
from cosmos_data_videophy.question import RUBRIC, YES_OR_NO, conversation
from cosmos_data_videophy.tables import Row, find_table, read_rows
from cosmos_data_videophy.writing import entry, write_json

__all__ = ["PrepareOptions", "Report", "materialise"]

MISSING = ("", *EMPTY_CELLS)


@frozen(kw_only=True)
class PrepareOptions:
    """split: 'train' or 'val'. source: a table, or a folder with one and perhaps videos; None: the Hub."""

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
    """Numbers of rows. rows: requested; written: in the manifest; failed: listed in failures.jsonl."""

    rows: int
    written: int
    failed: int


@frozen
class _Outcome:
    number: int
    row: Row
    failure: str | None


def materialise(options: PrepareOptions) -> Report:
    """Write one split; the manifest comes last. Raises UserError when there is no table, or when every row failed."""
    table = find_table(options.source, options.split)
    every = list(read_rows(table, ("video_url", options.score)))
    rows = every[: options.limit]
    folder = options.output / f"videophy2_{options.split}"
    make_folder(folder, "nothing was written")
    shared = shared_names(row.get("video_url", "").strip() for row in every)
    outcomes = _write_rows(rows, options, Split(folder, table.folder, Event(), shared))
    failures = [outcome for outcome in outcomes if outcome.failure is not None]
    lines = [
        json.dumps({"row": outcome.number, "url": outcome.row.get("video_url", ""), "reason": outcome.failure})
        for outcome in failures
    ]
    (folder / "failures.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    manifest = [
        entry(outcome.number, outcome.row.get("category", "")) for outcome in outcomes if outcome.failure is None
    ]
    if not manifest:
        message = failures[0].failure or "" if failures else "the table has no rows"
        raise UserError(
            "no row could be prepared; no manifest was written", [Problem(message=message, file=str(table.files[0]))]
        )
    write_json(folder / MANIFEST, manifest)
    return Report(len(rows), len(manifest), len(failures))


def _write_rows(rows: Sequence[Row], options: PrepareOptions, split: Split) -> list[_Outcome]:
    """Outcomes in order of the rows. An interruption does not wait for running threads."""
    split.prepare()
    outcomes = []
    pool = ThreadPoolExecutor(options.workers)
    try:
        with progress(f"fetching videophy2_{options.split}", len(rows), "videos") as fetching:
            jobs = [pool.submit(_write_row, number, row, options, split) for number, row in enumerate(rows, start=1)]
            for job in jobs:
                outcomes.append(job.result())
                fetching.advance()
    finally:
        split.stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return outcomes


def _write_row(number: int, row: Row, options: PrepareOptions, split: Split) -> _Outcome:
    question = options.question or (YES_OR_NO if options.score == "joint" else RUBRIC)
    caption = _caption(row) if options.caption else None
    try:
        dialog = conversation(question, _answer(row, options.score), caption)
        split.put_video(number, row.get("video_url", "").strip())
        split.put_conversation(number, dialog)
    except UnreadableSample as error:
        return _Outcome(number, row, error.reason)
    except (ValueError, OSError) as error:
        return _Outcome(number, row, str(error) or type(error).__name__)
    return _Outcome(number, row, None)


def _caption(row: Row) -> str | None:
    """The longer caption if there is one, else the other; None without any. Cells in MISSING hold none."""
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
        if value not in (0, 1):
            raise ValueError(f"the score {text} is not 0 or 1")
        return "yes" if value else "no"
    if value not in (1, 2, 3, 4, 5):
        raise ValueError(f"the score {text} is not 1 to 5")
    return str(int(value))
