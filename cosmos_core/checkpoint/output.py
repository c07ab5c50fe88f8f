"""Folders that appear when they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_core.errors import Problem, UserError

__all__ = ["whole_folder"]

RECORD = ".made_of"
"""While a folder is written: of what."""


@contextmanager
def whole_folder(output: Path, undone: str, *, made_of: str | None = None) -> Iterator[Path]:
    """A hidden folder beside `output` that takes its name when the block ends well.

    undone: ends the message of a refusal, such as "nothing was exported". made_of: names the sources; what an
    interrupted attempt at the same left is kept. Raises UserError when `output` exists, and when the disk refuses a
    write.
    """
    if output.exists():
        raise UserError(f"{output} exists already; {undone}")
    hidden = output.with_name(f".{output.name}.partial")
    try:
        _begin(hidden, made_of)
        yield hidden
        (hidden / RECORD).unlink(missing_ok=True)
        hidden.rename(output)
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=str(error.filename or output))
        raise UserError(f"{output} cannot be written; {undone}", [problem]) from error


def _begin(hidden: Path, made_of: str | None) -> None:
    """Make the folder, or leave it as an attempt at the same left it."""
    record = hidden / RECORD
    if made_of is not None and record.is_file() and record.read_text(encoding="utf-8") == made_of:
        return
    if hidden.is_dir():
        shutil.rmtree(hidden)
    hidden.mkdir(parents=True)
    if made_of is not None:
        record.write_text(made_of, encoding="utf-8")
