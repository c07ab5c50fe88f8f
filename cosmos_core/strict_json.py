"""JSON of files: reading refuses what would fail later, and NaN and infinities are written as null."""

from __future__ import annotations

import json
import math
import sys
from datetime import date, time
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError
from cosmos_core.text_files import read_text

__all__ = ["MAX_DEPTH", "dumps", "loads", "loads_at", "read_json", "read_object"]

MAX_DEPTH = 100
"""Levels of lists and objects that are read. Code that walks through deeper ones runs out of stack."""
UNREADABLE = "a JSON file cannot be read"


def dumps(value: Any, indent: int | None = None) -> str:
    """JSON in one line, or indented. What JSON lacks: NaN and infinity become null, TOML's dates and times text."""
    return json.dumps(_plain(value), allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, date | time):
        return value.isoformat()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Repeated(ValueError):
    """A name that one object has twice."""


def loads(text: str, *, repeated: bool = False) -> Any:
    """The value of a JSON text. repeated: whether an object may have a name twice, of which the last one counts.

    Raises ValueError alone: JSONDecodeError, which has the line, for what is not JSON; else for values nested deeper
    than MAX_DEPTH, for integers of thousands of digits, for texts that no UTF-8 can hold, and for repeated names.
    """
    deep = f"has more than {MAX_DEPTH} levels of lists and objects"
    try:
        value = json.loads(text, object_pairs_hook=None if repeated else _object)
    except (json.JSONDecodeError, _Repeated):
        raise
    except RecursionError:
        raise ValueError(deep) from None
    except ValueError:  # The only other one.
        raise ValueError(f"holds a number of more than {sys.get_int_max_str_digits()} digits") from None
    # The counts are cheap and suffice nearly always.
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
        raise ValueError(deep)
    if ("\\ud" in text or "\\uD" in text) and not _is_utf8(value):
        raise ValueError("holds half of a character (a lone surrogate)")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(f"has {next(name for name in names if names.count(name) > 1)!r} twice in one object")
    return value


def loads_at(text: str, file: str, line: int, title: str, hint: str = "") -> Any:
    """As `loads`, of text that begins at a line of a file. Raises UserError with that title, file and line.

    hint: what to do about text that is not JSON.
    """
    try:
        return loads(text)
    except json.JSONDecodeError as error:
        problem = Problem(message=f"is not JSON: {error.msg}", file=file, line=line + error.lineno - 1, hint=hint)
    except ValueError as error:
        problem = Problem(message=str(error), file=file, line=line)
    raise UserError(title, [problem])


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _is_utf8(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(path: Path, title: str = UNREADABLE, hint: str = "") -> Any:
    """The value in a file. Raises UserError of this title, with file and line, for what cannot be read.

    Names may be repeated: most of these files other programs wrote, and read so themselves.
    """
    line = None
    try:
        return loads(read_text(path), repeated=True)
    except UserError as error:
        raise UserError(title, error.problems) from None
    except json.JSONDecodeError as error:
        message, line = f"is not JSON: {error.msg}", error.lineno
    except ValueError as error:
        message = str(error)
    raise UserError(title, [Problem(message=message, file=str(path), line=line, hint=hint)])


def read_object(path: Path, title: str = UNREADABLE, hint: str = "") -> dict[str, Any]:
    """The JSON object in a file. Raises UserError of this title for any other value too."""
    value = read_json(path, title, hint)
    if not isinstance(value, dict):
        raise UserError(title, [Problem(message="is not a JSON object", file=str(path), hint=hint)])
    return value
