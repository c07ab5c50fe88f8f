"""Text files of users: UTF-8, with or without a byte order mark; CSV among them."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import path_fault

__all__ = ["EMPTY_CELLS", "as_utf8", "csv_fault", "csv_reader", "extra_fields", "read_text", "text_of"]

MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Marks of other encodings. Those of UTF-32 come first: one of them begins with a mark of UTF-16."""
SAVE_AGAIN = "save the file as UTF-8"
EMPTY_CELLS = ("#n/a", "<na>", "n/a", "na", "nan", "none", "null")
"""How other programs write a cell without a value, in small letters."""
NUL = "holds a NUL character; the file is damaged, or no text"
MAX_FIELD = 16 << 20
"""Characters of a field of a CSV. Python's default of 131,072 is too few for some columns of JSON."""


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError with file, line and encoding."""
    if fault := path_fault(str(path)):
        raise _unreadable(f"the path {fault}", repr(str(path)), None, "")
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
        raise _unreadable(error.reason, file, line, "" if error.reason == NUL else SAVE_AGAIN) from None


def as_utf8(data: bytes) -> str:
    """The text, without a byte order mark. Raises UnicodeDecodeError, whose reason says the likely encoding."""
    other = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    if other is None and data[:2].count(0) == 1:
        other = "UTF-16 without a byte order mark"
    if other is not None:
        raise UnicodeDecodeError("utf-8", data, 0, 1, f"is {other}, not UTF-8")
    if (place := data.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", data, place, place + 1, NUL)
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        # The offset is that in all of `data`.
        start = error.start + len(data) - len(error.object)
        reason = f"is not UTF-8 (byte 0x{data[start]:02x}); perhaps it is Windows-1252 or Latin-1"
        raise UnicodeDecodeError("utf-8", data, start, start + 1, reason) from None


def csv_reader(text: str, *, delimiter: str = ",", skip_spaces: bool = True) -> csv.DictReader[str]:
    """Rows by the names in the first line; reading them raises csv.Error.

    Strict, since a quote that is never closed would hide the rows after it. skip_spaces: those after a delimiter.
    """
    # The limit holds for the whole process, so it is only raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD))
    lines = io.StringIO(text, newline="")
    return csv.DictReader(lines, delimiter=delimiter, strict=True, skipinitialspace=skip_spaces)


def extra_fields(row: Mapping[str | None, Any]) -> str | None:
    """What is wrong with a row that has more fields than columns, as an unquoted comma in a text makes; None if not."""
    if not any(row.get(None, ())):
        return None
    fields, columns = len(row) - 1 + len(row[None]), len(row) - 1
    return f"this row has {fields} fields, the first row {columns}; put quotes around a text that holds the separator"


def csv_fault(error: csv.Error) -> str:
    """What is wrong with the row that raised this."""
    if "end of data" in str(error):
        return "a quote is opened in this row and never closed"
    if "field limit" in str(error):
        return f"a field has more than {csv.field_size_limit():,} characters; perhaps a quote is never closed"
    return f"not CSV: {error}"


def _unreadable(message: str, file: str, line: int | None, hint: str) -> UserError:
    return UserError("a text file cannot be read", [Problem(message=message, file=file, line=line, hint=hint)])
