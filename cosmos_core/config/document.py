"""One TOML file as plain values, each with its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from attrs import frozen
from tomlkit.exceptions import ParseError, TOMLKitError

from cosmos_core.config.locate import KeyPath, locate
from cosmos_core.errors import Problem, UserError

__all__ = ["Document", "Origin", "Origins", "read_document"]


@frozen
class Origin:
    """Where a value was written: a file and line, or 'command line'."""

    file: str
    line: int | None = None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


Origins = dict[KeyPath, Origin]


@frozen
class Document:
    """Plain values of one file, and the origin of every key path in it."""

    path: Path
    values: dict[str, Any]
    origins: Origins


def read_document(path: Path) -> Document:
    """Read a TOML file. Raises UserError when it is missing, no UTF-8 text or no TOML, with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"no such recipe file: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    try:
        values = tomlkit.parse(text).unwrap()
    except ParseError as error:
        raise _syntax_error(path, str(error), error.line) from None
    except TOMLKitError as error:
        raise _syntax_error(path, str(error), None) from None
    origins = {key: Origin(str(path), line) for key, line in locate(text).items()}
    return Document(path, values, origins)


def _syntax_error(path: Path, message: str, line: int | None) -> UserError:
    problem = Problem(message=message, file=str(path), line=line, hint="fix the TOML syntax at this line")
    return UserError(f"{path} is not valid TOML", [problem])
