"""Files of rows, local or on the Hub: the sizes of their blocks, and the rows of a block."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError
from cosmos_vlm.data.retries import with_retries

__all__ = ["JSON", "PARQUET", "Block", "block_sizes", "holds_records", "read_block"]

PARQUET, JSON = ".parquet", (".json", ".jsonl")
COLUMNS = ["id", "image", "conversations"]
REMOTE = "hf://"
ROWS = 1000
"""Rows of a JSON file that count as one block."""

Block = Callable[[int], Mapping[str, Any]]
"""A block's row by number."""


def block_sizes(location: str) -> tuple[int, ...]:
    """Rows of every block of a file. Raises UserError when it cannot be read."""
    if location.endswith(JSON):
        count = len(_records(Path(location)))
        return tuple(min(ROWS, count - start) for start in range(0, count, ROWS))

    def sizes() -> tuple[int, ...]:
        with _parquet(location) as table:
            metadata = table.metadata
            return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))

    return with_retries(sizes, location) if location.startswith(REMOTE) else sizes()


def read_block(location: str, number: int) -> Block:
    """The rows of one block. Raises UserError when the file cannot be read."""
    if location.endswith(JSON):
        records = _records(Path(location))[number * ROWS : (number + 1) * ROWS]
        return records.__getitem__

    def read() -> Any:
        with _parquet(location) as table:
            columns = [name for name in COLUMNS if name in table.schema_arrow.names]
            return table.read_row_group(number, columns=columns)

    rows = with_retries(read, location) if location.startswith(REMOTE) else read()
    return lambda index: dict(rows.slice(index, 1).to_pylist()[0])


@contextmanager
def _parquet(location: str) -> Iterator[Any]:
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import ParquetFile

    local = not location.startswith(REMOTE)
    errors = (ArrowInvalid, OSError) if local else (ArrowInvalid, FileNotFoundError)
    try:
        with _opened(location) as file:
            yield ParquetFile(file, pre_buffer=True)
    except errors as error:
        hint = "fetch it again" if local else "choose another subset or revision"
        problem = Problem(message=str(error).splitlines()[0], file=location, hint=hint)
        raise UserError("a Parquet file cannot be read", [problem]) from None


def _opened(location: str) -> Any:
    if not location.startswith(REMOTE):
        return open(location, "rb")
    from huggingface_hub import HfFileSystem

    return HfFileSystem().open(location, "rb")


def holds_records(path: Path) -> bool:
    """Whether a JSON file holds a list with objects, or one object a line. Raises UserError when it is damaged."""
    content = _content(path)
    return isinstance(content, list) and any(isinstance(row, dict) for row in content)


def _records(path: Path) -> list[dict[str, Any]]:
    """Raises UserError with file and line, or with the number of the record."""
    content = _content(path)
    if not isinstance(content, list):
        raise _unreadable("is not a list of records", path, None)
    for number, row in enumerate(content):
        if not isinstance(row, dict):
            raise _unreadable(f"record {number} is not an object", path, None)
    return content


@lru_cache(maxsize=8)
def _content(path: Path) -> Any:
    """The value of a .json file, or the values of a .jsonl file's lines. Raises UserError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (ValueError, OSError) as error:
        raise _unreadable(str(error), path, None) from None
    if path.suffix == ".json":
        return _parsed(text, path, 1)
    # Not splitlines: it also splits at characters that a JSON string may contain.
    lines = enumerate(text.split("\n"), start=1)
    return [_parsed(line, path, number) for number, line in lines if line.strip()]


def _parsed(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _unreadable(error.msg, path, line + error.lineno - 1) from None


def _unreadable(message: str, path: Path, line: int | None) -> UserError:
    return UserError("a JSON file cannot be read", [Problem(message=message, file=str(path), line=line)])
