"""The fields of the first row of a file: what kind of data it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cosmos_core.data.text_files import json_in, text_of
from cosmos_core.errors import Problem, UserError

__all__ = ["ROW_FILES", "first_fields"]

ROW_FILES = (".json", ".jsonl", ".parquet")
NOTHING = object()


def first_fields(file: Path) -> frozenset[str]:
    """Names of the fields of the first row of a JSON, JSONL or Parquet file; none for a file of something else.

    Raises UserError with file and line when it cannot be read, and when it has no rows.
    """
    if file.suffix == ".parquet":
        return frozenset(_columns(file))
    rows = iter(_values(file))
    first = next(rows, NOTHING)
    if first is NOTHING:
        raise UserError("a file has no rows", [Problem(message="there is nothing in it", file=str(file), line=1)])
    return frozenset(first) if isinstance(first, dict) else frozenset()


def _values(file: Path) -> Iterable[Any]:
    if file.suffix == ".jsonl":
        return (json_in(line, str(file), number) for number, line in _lines(file) if line.strip())
    text = text_of(_bytes(file), str(file))
    content = json_in(text, str(file)) if text.strip() else []
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
    except (OSError, pyarrow.ArrowException) as error:
        raise _unreadable(str(error).splitlines()[0], file) from None


def _unreadable(message: str, file: Path) -> UserError:
    return UserError("a file of rows cannot be read", [Problem(message=message, file=str(file))])
