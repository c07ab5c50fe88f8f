"""A TOML file as plain values, with the location of each."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.config.locate import KeyPath, key_text, locate
from cosmos_core.errors import Problem, UserError
from cosmos_core.text_files import text_of

__all__ = ["HEADER", "Document", "Location", "Provenance", "problem_at", "read_document", "read_text"]

HEADER = ("summary", "requires", "extends", "unset", "published", "not_yet")
"""What a recipe file may hold beside the sections of a run."""

_MEANT = {
    "Unexpected character": "a line is key = value, with text in quotes, true or false in lower case, and no null",
    "Control characters": "a closing quote may be missing",
    "Empty key": "a key of other characters than A-Z, a-z, 0-9, '-' and '_' stands in quotes",
}
"""Start of a parser's message, and what is likely meant."""


@frozen
class Location:
    """Where a value was written: a file and line, or 'command line'."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


Provenance = dict[KeyPath, Location]


@frozen
class Document:
    """Plain values of one file, and the location of every key path in it."""

    path: Path
    values: dict[str, Any]
    provenance: Provenance


def problem_at(path: KeyPath, message: str, provenance: Provenance, hint: str = "") -> Problem:
    """A problem with the file and line where `path` was written, or else the nearest table above it."""
    for depth in range(len(path), 0, -1):
        location = provenance.get(path[:depth])
        if location is not None:
            return Problem(message=message, key=key_text(path), file=location.file, line=location.line, hint=hint)
    return Problem(message=message, key=key_text(path), hint=hint)


def read_text(path: Path) -> str:
    """A recipe's text, without the byte order mark that some editors write. Raises OSError or UnicodeDecodeError."""
    return path.read_text(encoding="utf-8-sig")


def read_document(path: Path) -> Document:
    """Read a TOML file. Raises UserError with file and line when it is missing, not UTF-8 or not TOML."""
    # Here, since lists of recipes import this module and are to be fast.
    import tomlkit
    from tomlkit.exceptions import ParseError, TOMLKitError

    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UserError(f"no such recipe file: {path}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from None
    except UnicodeDecodeError:
        text = text_of(path.read_bytes(), str(path))  # Raises with line and encoding.
    try:
        values = tomlkit.parse(text).unwrap()
    except ParseError as error:
        message = re.sub(r"\.? at line \d+ col \d+$", "", str(error))
        if "\0" not in text:  # tomlkit's sign for the end.
            message = message.replace("character: '\\x00'", "end of file")
        raise _syntax_error(path, message, _line_of_error(text) or error.line) from None
    except TOMLKitError as error:
        raise _syntax_error(path, str(error).rstrip("."), _line_of_error(text)) from None
    provenance = {key: Location(str(path), line) for key, line in locate(text).items()}
    return Document(path, values, provenance)


def _line_of_error(text: str) -> int | None:
    """The line as the standard library counts it: tomlkit has none for a repeated key, and a later one for a table."""
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # The second one of deep nesting, which tomlkit tells by itself.
        if "(at end of document)" in str(error):
            return text.count("\n", 0, len(text.rstrip())) + 1
        line = re.search(r"at line (\d+)", str(error))
        return int(line[1]) if line else None
    return None


def _syntax_error(path: Path, message: str, line: int | None) -> UserError:
    likely = [f"; {hint}" for start, hint in _MEANT.items() if message.startswith(start)]
    hint = "".join(["fix the TOML syntax at this line", *likely])
    problem = Problem(message=message, file=str(path), line=line, hint=hint)
    return UserError(f"{path} is not valid TOML", [problem])
