"""Directories that appear when they are complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import isfile, realpath
from pathlib import Path

from cosmos_core.errors import Problem, UserError, file_of
from cosmos_core.names import is_taken, path_fault
from cosmos_core.plan.directory_lock import directory_lock, empty_directory

__all__ = ["atomic_directory"]

RECORD = ".made_of"
"""In an unfinished directory: what it is made from."""


@contextmanager
def atomic_directory(output: Path, undone: str, *, made_of: str | None = None) -> Iterator[Path]:
    """A hidden directory beside `output`, renamed to `output` when the block ends without an exception.

    undone: ends error messages, such as "nothing was exported". made_of: identifies the sources; files that an
    interrupted attempt with the same sources left are kept. Without it a failed attempt leaves nothing. Raises
    UserError when `output` exists, is inside a checkpoint or is written by another command, or a write fails.
    """
    if fault := path_fault(str(output)):
        problem = Problem(message=f"the path {fault}", file=repr(str(output)), hint="choose another folder")
        raise UserError(f"the output cannot be written; {undone}", [problem])
    if is_taken(output):
        problem = Problem(message="choose another folder or remove it")
        raise UserError(f"{output} exists already; {undone}", [problem])
    # Not Path.is_file, which raises where a folder called "model" is another user's.
    above = Path(realpath(output)).parents
    if around := next((folder for folder in above if isfile(folder / "model/.metadata")), None):
        message = f"{around} is a checkpoint or a base, and what lies in it goes with it"
        problem = Problem(message=message, hint="choose another folder")
        raise UserError(f"{output} would be part of a checkpoint; {undone}", [problem])
    hidden = output.with_name(f".{output.name}.partial")
    try:
        with directory_lock(hidden):
            try:
                _begin(hidden, made_of)
                yield hidden
                (hidden / RECORD).unlink(missing_ok=True)
                hidden.rename(output)
            finally:
                if made_of is None:
                    shutil.rmtree(hidden, ignore_errors=True)
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=file_of(error, output))
        raise UserError(f"{output} cannot be written; {undone}", [problem]) from error


def _begin(hidden: Path, made_of: str | None) -> None:
    """Empty the directory, or keep what an attempt with the same sources left."""
    record = hidden / RECORD
    if made_of is not None and record.is_file() and record.read_text(encoding="utf-8") == made_of:
        return
    empty_directory(hidden)
    if made_of is not None:
        record.write_text(made_of, encoding="utf-8")
