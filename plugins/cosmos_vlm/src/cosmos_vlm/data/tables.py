"""Files of rows, local or on the Hub: the sizes of their blocks, and the rows of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from cosmos_core.data.first_row import ONE_A_LINE, ONE_LIST
from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub import with_retries
from cosmos_core.strict_json import loads_at
from cosmos_core.text_files import text_of

__all__ = ["JSON", "PARQUET", "Block", "block_sizes", "holds_records", "place_of", "read_block"]

TITLE = "a JSON file cannot be read"

PARQUET, JSON = ".parquet", (".json", ".jsonl")
REMOTE = "hf://"
ROWS = 1000
"""Rows of a JSON file that count as one block."""
MAX_PROBLEMS = 10
"""Bad lines that one error lists."""

Block = Callable[[int], Mapping[str, Any]]
"""A block's row by number."""


def block_sizes(location: str) -> tuple[int, ...]:
    """Rows of every block of a file. Raises UserError when it cannot be read."""
    if location.lower().endswith(JSON):
        count = len(_records(location))
        return tuple(min(ROWS, count - start) for start in range(0, count, ROWS))

    def sizes() -> tuple[int, ...]:
        with _parquet(location) as table:
            metadata = table.metadata
            return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))

    return with_retries(sizes, location) if location.startswith(REMOTE) else sizes()


def read_block(location: str, number: int) -> Block:
    """The rows of one block. Raises UserError when the file cannot be read."""
    if location.lower().endswith(JSON):
        records = _records(location)[number * ROWS : (number + 1) * ROWS]
        return lambda index: records[index][1]

    from cosmos_core.data.chat import FIELDS

    def read() -> Any:
        with _parquet(location) as table:
            columns = [name for name in FIELDS if name in table.schema_arrow.names]
            rows = table.read_row_group(number, columns=columns)
            rows.validate(full=True)  # Texts may not be UTF-8.
            return rows

    rows = with_retries(read, location) if location.startswith(REMOTE) else read()
    return lambda index: dict(rows.slice(index, 1).to_pylist()[0])


def place_of(location: str, number: int, index: int) -> str:
    """File and line of a row in a block, for messages; file and number of a row that has no line."""
    name = Path(location).name
    if not location.lower().endswith(JSON):
        return f"{name}, row {index} of row group {number}"
    line = _records(location)[number * ROWS + index][0]
    return f"{name}, {'record' if location.lower().endswith('.json') else 'line'} {line}"


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
        problem = Problem(message=first_line(error), file=location, hint=hint)
        raise UserError("a Parquet file cannot be read", [problem]) from None


def _opened(location: str) -> Any:
    if not location.startswith(REMOTE):
        return open(location, "rb")
    from huggingface_hub import HfFileSystem

    return HfFileSystem().open(location, "rb")


def holds_records(path: Path) -> bool:
    """Whether a JSON file holds a list with objects, or one object a line. Raises UserError when it is damaged."""
    content = _content(str(path))
    return isinstance(content, list) and any(isinstance(row, dict) for _, row in content)


def _records(location: str) -> list[tuple[int, dict[str, Any]]]:
    """Lines of a .jsonl file or records of a .json file, with their numbers. Raises UserError with file and number."""
    content = _content(location)
    if content is None:
        raise _unreadable("is not a list of records", location, None)
    for number, row in content:
        if not isinstance(row, dict):
            line = None if location.lower().endswith(".json") else number
            raise _unreadable(f"record {number} is not an object", location, line)
    return content


@lru_cache(maxsize=8)
def _content(location: str) -> list[tuple[int, Any]] | None:
    """The values with their numbers; None for a .json file of something else. Raises UserError with file and line."""
    text = text_of(_bytes(location), location)
    if location.lower().endswith(".json"):
        content = loads_at(text, location, 1, TITLE, ONE_LIST)
        return list(enumerate(content)) if isinstance(content, list) else None
    # Not splitlines: it also splits at characters that a JSON string may contain.
    lines = enumerate(text.split("\n"), start=1)
    values: list[tuple[int, Any]] = []
    problems: list[Problem] = []
    for number, line in lines:
        try:
            values += [(number, loads_at(line, location, number, TITLE, ONE_A_LINE))] if line.strip() else []
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(TITLE, problems[:MAX_PROBLEMS])
    return values


def _bytes(location: str) -> bytes:
    def read() -> bytes:
        with _opened(location) as file:
            return bytes(file.read())

    if location.startswith(REMOTE):
        return with_retries(read, location)
    try:
        return read()
    except OSError as error:
        raise _unreadable(str(error), location, None) from None


def _unreadable(message: str, file: str, line: int | None) -> UserError:
    return UserError(TITLE, [Problem(message=message, file=file, line=line)])
