"""Folders that appear when they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_core.errors import Problem, UserError

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(output: Path, undone: str, *, resume: bool = False) -> Iterator[Path]:
    """A hidden folder beside `output` that takes its name when the block ends well.

    undone: ends the message of a refusal, such as "nothing was exported". resume: what an interrupted attempt left is
    kept. Raises UserError when `output` exists, and when the disk refuses a write.
    """
    if output.exists():
        raise UserError(f"{output} exists already; {undone}")
    hidden = output.with_name(f".{output.name}.partial")
    try:
        if not resume and hidden.is_dir():
            shutil.rmtree(hidden)
        hidden.mkdir(parents=True, exist_ok=True)
        yield hidden
        hidden.rename(output)
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=str(error.filename or output))
        raise UserError(f"{output} cannot be written; {undone}", [problem]) from error
