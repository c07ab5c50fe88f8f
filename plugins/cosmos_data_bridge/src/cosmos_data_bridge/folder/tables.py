"""Clips and captions in a table: CSV, TSV, JSONL or Parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.data.text_files import read_text
from cosmos_core.errors import Problem, UserError
from cosmos_data_bridge.folder.entries import Entry, caption_fields, key_of, no_problems

__all__ = ["TABLES", "Columns", "columns_of", "is_table", "table"]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
PATHS = ("vision_path", "path", "file_name", "file", "filename", "video", "video_path", "image", "image_path", "media")
TEXTS = ("caption_json", "caption", "text", "prompt", "description")
"""Names of columns that are looked for, in this order."""

Row = Mapping[str, Any]


@frozen
class Columns:
    """The columns that hold paths and captions. guessed: whether neither was named."""

    path: str
    caption: str
    guessed: bool


def is_table(path: Path) -> bool:
    """Whether this is a table by its name."""
    return path.suffix.lower() in TABLES


def table(file: Path, path_column: str | None, caption_column: str | None) -> tuple[list[Entry], Columns]:
    """The rows of a table; relative paths begin at its folder. Raises UserError with file and lines."""
    rows = list(_rows(file))
    if not rows:
        raise UserError(f"{file} has no rows")
    columns = columns_of(list(rows[0][1]), path_column, caption_column, file)
    problems: list[Problem] = []
    entries = []
    for line, row in rows:
        try:
            entries.append(_entry(file, line, row, columns))
        except ValueError as error:
            problems.append(Problem(message=str(error), file=str(file), line=line))
    no_problems(problems, f"{len(problems)} of {len(rows)} rows cannot be used")
    return entries, columns


def columns_of(names: Sequence[str], path: str | None, caption: str | None, file: Path) -> Columns:
    """The columns to read: the named ones, else the first known name. Raises UserError for one that is not there."""
    found = []
    for what, named, known in (("path", path, PATHS), ("caption", caption, TEXTS)):
        column = named or next((name for name in known if name in names), None)
        if column is None or column not in names:
            looked_for = named or ", ".join(known)
            problem = Problem(
                message=f"no column for the {what}: looked for {looked_for}; it has {', '.join(names)}",
                file=str(file),
                line=1,
                hint=f"--{what}-column NAME (dataset.{what}_column) names it",
            )
            raise UserError("a column is missing", [problem])
        found.append(column)
    return Columns(found[0], found[1], path is None or caption is None)


def _entry(file: Path, line: int, row: Row, columns: Columns) -> Entry:
    text, caption = row.get(columns.path), row.get(columns.caption)
    if not isinstance(text, str) or not text:
        raise ValueError(f"column '{columns.path}' holds no path: {text!r:.80}")
    if "://" in text:
        raise ValueError(f"'{text}' is an address; only files are read")
    path = file.parent / text
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if caption is None:
        raise ValueError(f"column '{columns.caption}' is empty")
    if columns.caption == "caption_json" and isinstance(caption, str):
        caption = json.loads(caption)
    return Entry(key_of(path, file.parent), path, caption_fields(caption), file, line)


def _rows(file: Path) -> Iterator[tuple[int, Row]]:
    """Rows with their lines; those of Parquet are numbered from 1."""
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        yield from enumerate(_parquet(file), start=1)
    elif suffix == ".jsonl":
        yield from _json_lines(file)
    else:
        reader = csv.DictReader(io.StringIO(read_text(file), newline=""), delimiter="\t" if suffix == ".tsv" else ",")
        for row in reader:
            yield reader.line_num, row


def _json_lines(file: Path) -> Iterator[tuple[int, Row]]:
    problems = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(Problem(message=f"not JSON: {error.msg}", file=str(file), line=number))
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(Problem(message="not a JSON object", file=str(file), line=number))
    no_problems(problems, f"bad lines in {file}")


def _parquet(file: Path) -> list[Row]:
    if find_spec("pyarrow") is None:
        problem = Problem(message="Parquet needs the package pyarrow", file=str(file), hint="pip install pyarrow")
        raise UserError("a table cannot be read", [problem])
    import pyarrow
    import pyarrow.parquet

    try:
        rows: list[Row] = pyarrow.parquet.read_table(file).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        problem = Problem(message=str(error).splitlines()[0], file=str(file))
        raise UserError("a table cannot be read", [problem]) from None
    return rows
