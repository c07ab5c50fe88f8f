"""Text files of datasets: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError, first_line

__all__ = ["as_utf8", "has_lone_surrogate", "json_in", "json_of", "read_text", "text_of"]

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Marks of other encodings. Those of UTF-32 come first: one of them begins with a mark of UTF-16."""
SAVE_AGAIN = "save the file as UTF-8"


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError with file, line and encoding."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(error.strerror or str(error), str(path), None, "") from None
    return text_of(data, str(path))


def text_of(data: bytes, file: str) -> str:
    """The text of a file's content. Raises UserError with file, line and encoding."""
    try:
        return as_utf8(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unreadable(error.reason, file, line, SAVE_AGAIN) from None


def as_utf8(data: bytes) -> str:
    """The text, without a byte order mark. Raises UnicodeDecodeError, whose reason says the likely encoding."""
    other = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    if other is None and b"\0" in data[:2]:
        other = "UTF-16 without a byte order mark"
    if other is not None:
        raise UnicodeDecodeError("utf-8", data, 0, 1, f"is {other}, not UTF-8")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # The offset is that in all of `data`.
        start = error.start + len(data) - len(error.object)
        reason = f"is not UTF-8 (byte 0x{data[start]:02x}); perhaps it is Windows-1252 or Latin-1"
        raise UnicodeDecodeError("utf-8", data, start, start + 1, reason) from None


def has_lone_surrogate(text: str) -> bool:
    """Whether a text holds half of a character, as JSON's escapes allow; it cannot be written or tokenized."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def json_of(text: str | bytes) -> Any:
    """A JSON value. Raises json.JSONDecodeError, also for values that Python cannot hold, such as very deep ones."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else first_line(error)
        raise json.JSONDecodeError(reason, "", 0) from None


def json_in(text: str, file: str, line: int = 1) -> Any:
    """The JSON value in a file, or in its line `line`. Raises UserError with file and line."""
    try:
        return json_of(text)
    except json.JSONDecodeError as error:
        is_jsonl = error.msg == "Extra data" and file.endswith(".json")
        hint = "one value a line is JSONL: call the file .jsonl" if is_jsonl else ""
        problem = Problem(message=error.msg, file=file, line=line + error.lineno - 1, hint=hint)
        raise UserError("a JSON file cannot be read", [problem]) from None


def _unreadable(message: str, file: str, line: int | None, hint: str) -> UserError:
    return UserError("a text file cannot be read", [Problem(message=message, file=file, line=line, hint=hint)])
