"""The table of VideoPhy-2: where it is, and its rows, as CSV or as Parquet.

See docs/data.md, VideoPhy-2 tables.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.data.files import check_links, files_below
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.text_files import csv_fault, csv_reader, extra_fields, read_text

__all__ = ["Row", "Table", "find_table", "read_rows"]

Row = dict[str, str]
"""Text by column; '' for empty cells."""

REPOS = {"train": "videophysics/videophy2_train", "val": "videophysics/videophy2_test"}
CSV = {
    "train": ("videophy2_training.csv", "data.csv", "videophy2.csv", "train.csv", "videophy2_test.csv"),
    "val": ("videophy2_test.csv", "data.csv", "videophy2.csv", "train.csv", "videophy2_training.csv"),
}
"""File names in the order of preference; the other split's own comes last."""
PARQUET = ".parquet"
SPLITS = {"train": ("train",), "val": ("test", "train")}
"""How Parquet files of a split begin; the Hub calls the only split of a repository `train`."""
COLUMNS = ("video_url", "caption", "upsampled_caption", "pc", "sa", "joint", "category")
MAX_PROBLEMS = 10
"""Bad lines that one error lists."""
UNREADABLE = "the table of VideoPhy-2 cannot be read"


@frozen
class Table:
    """files: one CSV, or Parquet files in order. folder: where copies of the videos may lie."""

    files: tuple[Path, ...]
    folder: Path


def find_table(source: Path | None, split: str) -> Table:
    """The table of 'train' or 'val': a file, one in a folder, or, without `source`, the Hub's. Raises UserError."""
    if source is None:
        from cosmos_core.hub import fetch
        from cosmos_core.plugin import CheckpointSpec

        repo = REPOS[split]
        spec = CheckpointSpec(name=repo, summary="", repo=repo, files=("*.csv", f"*{PARQUET}"))
        folder = fetch(spec, repo_type="dataset").path
    elif isfile(source):
        return Table((source,), source.parent)
    else:
        own = source / f"videophy2_{'test' if split == 'val' else 'train'}"
        folder = own if isdir(own) else source
    for name in CSV[split]:
        if isfile(folder / name):
            return Table((folder / name,), folder)
    shards = _shards(folder, split)
    if shards:
        return Table(shards, folder)
    looked = ", ".join(sorted(CSV[split]))
    problem = Problem(message=f"looked for {looked} and for Parquet files", file=str(folder))
    raise UserError("there is no table of VideoPhy-2; nothing was written", [problem])


def _shards(folder: Path, split: str) -> tuple[Path, ...]:
    """Parquet files below `folder` that are called after the split, or after none."""
    files = [path for path in files_below(folder) if path.suffix == PARQUET]
    check_links(files)
    for prefix in SPLITS[split]:
        named = tuple(path for path in files if path.name.startswith(prefix))
        if named:
            return named
    return tuple(path for path in files if not path.name.startswith(("train", "test")))


def read_rows(table: Table, needed: Sequence[str]) -> Iterator[Row]:
    """Rows in order. Raises UserError, with file and line, for what cannot be read or lacks a needed column."""
    for path in table.files:
        yield from _parquet_rows(path, needed) if path.suffix.lower() == PARQUET else _csv_rows(path, needed)


def _csv_rows(path: Path, needed: Sequence[str]) -> Iterator[Row]:
    reader = csv_reader(read_text(path), skip_spaces=False)
    line = 1
    problems = []
    try:
        _check_columns(path, reader.fieldnames or (), needed)
        line = reader.line_num + 1
        for row in reader:
            if fault := extra_fields(row):
                problems.append(Problem(message=fault, file=str(path), line=line))
            else:
                yield {name: value or "" for name, value in _named(row)}
            line = reader.line_num + 1
    except csv.Error as error:
        problem = Problem(message=csv_fault(error), file=str(path), line=line)
        raise UserError(UNREADABLE, [problem]) from None
    if problems:
        rest = len(problems) - MAX_PROBLEMS
        more = [Problem(message=f"and {rest} more")] if rest > 0 else []
        raise UserError(UNREADABLE, [*problems[:MAX_PROBLEMS], *more])


def _named(row: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in row.items() if isinstance(name, str))


def _parquet_rows(path: Path, needed: Sequence[str]) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with path.open("rb") as file:
            table = ParquetFile(file)
            names = table.schema_arrow.names
            _check_columns(path, names, needed)
            rows = table.read(columns=[name for name in COLUMNS if name in names]).to_pylist()
    except (ArrowException, OSError, ValueError) as error:
        problem = Problem(message=first_line(error), file=str(path), hint="fetch it again")
        raise UserError(UNREADABLE, [problem]) from None
    for row in rows:
        yield {name: _text(value) for name, value in row.items()}


def _text(value: Any) -> str:
    """As a CSV would hold it."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _check_columns(path: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        message = f"it lacks the columns {', '.join(missing)}; it has {', '.join(names) or 'none'}"
        raise UserError(UNREADABLE, [Problem(message=message, file=str(path), line=1)])
    repeated = [name for name in COLUMNS if list(names).count(name) > 1]
    if repeated:
        message = f"it has several columns called {' and '.join(repeated)}; rename or remove the others"
        raise UserError(UNREADABLE, [Problem(message=message, file=str(path), line=1)])
