"""Rows of VideoPhy-2 to files: downloads in parallel, resumed, checked, reported."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import frozen
from rich.progress import Progress

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import decode_frames
from cosmos_core.errors import Problem, UserError
from cosmos_data_videophy.question import RUBRIC, YES_OR_NO, conversation
from cosmos_data_videophy.writing import entry, write_json

__all__ = ["Report", "Wanted", "materialise"]

REPOS = {"train": "videophysics/videophy2_train", "val": "videophysics/videophy2_test"}
TABLES = ("videophy2_training.csv", "videophy2_test.csv", "data.csv", "videophy2.csv", "train.csv")
ATTEMPTS = 5
TIMEOUT = 60
CHUNK = 1 << 16
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
    row: dict[str, str]
    failure: str | None


def materialise(wanted: Wanted) -> Report:
    """Write one split; the manifest comes last. Raises UserError when there is no table, or nothing could be had."""
    table = _table(wanted)
    rows = list(_rows(table))[: wanted.limit]
    folder = wanted.output / f"videophy2_{wanted.split}"
    for part in ("media", "text"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    outcomes = []
    with ThreadPoolExecutor(wanted.workers) as pool, Progress() as progress:
        task = progress.add_task(f"videophy2_{wanted.split}", total=len(rows))
        jobs = [
            pool.submit(_one, number, row, wanted, folder, table.parent) for number, row in enumerate(rows, start=1)
        ]
        for job in jobs:
            outcomes.append(job.result())
            progress.advance(task)
    failures = [one for one in outcomes if one.failure is not None]
    lines = [
        json.dumps({"row": one.number, "url": one.row.get("video_url", ""), "reason": one.failure}) for one in failures
    ]
    (folder / "failures.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    manifest = [entry(one.number, one.row.get("category", "")) for one in outcomes if one.failure is None]
    if not manifest:
        problem = Problem(message=failures[0].failure or "" if failures else "the table has no rows", file=str(table))
        raise UserError("no row could be prepared; no manifest was written", [problem])
    write_json(folder / "meta.json", manifest)
    return Report(len(rows), len(manifest), len(failures))


def _one(number: int, row: dict[str, str], wanted: Wanted, folder: Path, beside: Path) -> _Outcome:
    line = entry(number)
    try:
        answer = _answer(row, wanted.score)
        _fetch(row.get("video_url", "").strip(), folder / line["media"], beside)
    except (ValueError, OSError, UnreadableSample) as error:
        return _Outcome(number, row, getattr(error, "reason", None) or str(error) or type(error).__name__)
    question = wanted.question or (YES_OR_NO if wanted.score == "joint" else RUBRIC)
    caption = (row.get("upsampled_caption") or row.get("caption") or None) if wanted.caption else None
    write_json(folder / line["conversation"], conversation(question, answer, caption))
    return _Outcome(number, row, None)


def _answer(row: dict[str, str], field: str) -> str:
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


def _fetch(url: str, target: Path, beside: Path) -> None:
    """Leave a sound video at `target`. Raises ValueError, OSError or UnreadableSample."""
    if not url:
        raise ValueError("no video_url")
    if target.is_file() and target.stat().st_size:
        return
    part = target.with_name(f"{target.name}.part")
    local = beside / "media" / Path(unquote(urlsplit(url).path)).name
    copies = [path for path in (local, beside / local.name) if path.is_file()]
    if copies:
        shutil.copyfile(copies[0], part)
    else:
        _download(url, part)
    try:
        decode_frames(part, [0])
    except UnreadableSample:
        part.unlink()
        raise
    part.replace(target)


def _download(url: str, part: Path) -> None:
    """Continue where an earlier attempt stopped, if the server can."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"'{url}' is no web address, and no file of this name lies beside the table")
    retry = Retry(total=ATTEMPTS, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504))
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=retry))
        session.mount("https://", HTTPAdapter(max_retries=retry))
        have = part.stat().st_size if part.is_file() else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        with session.get(url, stream=True, timeout=TIMEOUT, headers=headers) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                return
            answer.raise_for_status()
            resumed = answer.status_code == requests.codes.partial_content
            expected = int(answer.headers.get("Content-Length", 0))
            begun = have if resumed else 0
            with part.open("ab" if resumed else "wb") as file:
                for chunk in answer.iter_content(CHUNK):
                    file.write(chunk)
            if expected and part.stat().st_size != begun + expected:
                raise OSError(f"{part.stat().st_size - begun} of {expected} bytes came; run again to continue")


def _table(wanted: Wanted) -> Path:
    """The CSV of the split. Raises UserError."""
    if wanted.source is None:
        from cosmos_core.hub import fetch
        from cosmos_core.plugin import CheckpointSpec

        repo = REPOS[wanted.split]
        folder = fetch(CheckpointSpec(name=repo, summary="", repo=repo, files=("*.csv",)), repo_type="dataset").path
    elif wanted.source.is_file():
        return wanted.source
    else:
        own = wanted.source / f"videophy2_{'test' if wanted.split == 'val' else 'train'}"
        folder = own if own.is_dir() else wanted.source
    for name in TABLES:
        if (folder / name).is_file():
            return folder / name
    problem = Problem(message="looked for " + ", ".join(TABLES), file=str(folder))
    raise UserError("there is no table of VideoPhy-2; nothing was written", [problem])


def _rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: value or "" for name, value in _named(row)}


def _named(row: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in row.items() if isinstance(name, str))
