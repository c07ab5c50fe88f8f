"""The fields of the first row of a file: what kind of data it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.strict_json import loads_at
from cosmos_core.text_files import text_of

__all__ = ["ONE_A_LINE", "ONE_LIST", "ROW_FILES", "first_fields"]

TITLE = "a file of rows cannot be read"

ROW_FILES = (".json", ".jsonl", ".parquet")
ONE_A_LINE = "a .jsonl file holds one object a line; call a file with one list of objects .json"
ONE_LIST = "a .json file holds one list of objects; call a file with one object a line .jsonl"
"""What to do about files that are not JSON, since the two are easily confused."""
NOTHING = object()


def first_fields(file: Path) -> frozenset[str]:
    """Names of the fields of the first row of a JSON, JSONL or Parquet file; none for a file of something else.

    Raises UserError with file and line when it cannot be read, and when it has no rows.
    """
    if file.suffix.lower() == ".parquet":
        return frozenset(_columns(file))
    rows = iter(_values(file))
    first = next(rows, NOTHING)
    if first is NOTHING:
        raise UserError("a file has no rows", [Problem(message="there is nothing in it", file=str(file), line=1)])
    return frozenset(first) if isinstance(first, dict) else frozenset()


def _values(file: Path) -> Iterable[Any]:
    if file.suffix.lower() == ".jsonl":
        return (loads_at(line, str(file), number, TITLE, ONE_A_LINE) for number, line in _lines(file) if line.strip())
    text = text_of(_bytes(file), str(file))
    content = loads_at(text, str(file), 1, TITLE, ONE_LIST) if text.strip() else []
    return content if isinstance(content, list) else [None]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """One by one, since a file may be large."""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                yield number, text_of(line, str(file))
    except OSError as error:
        raise _unreadable(error.strerror or str(error), file) from None


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(error.strerror or str(error), file) from None


def _columns(file: Path) -> list[str]:
    import pyarrow
    from pyarrow.parquet import read_schema

    try:
        return list(read_schema(file).names)
    except (OSError, ValueError, pyarrow.ArrowException) as error:  # ValueError of names that are not UTF-8.
        raise _unreadable(first_line(error), file) from None


def _unreadable(message: str, file: Path) -> UserError:
    return UserError(TITLE, [Problem(message=message, file=str(file))])
