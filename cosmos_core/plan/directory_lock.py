"""A folder that one command at a time fills."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.hold import unheld

__all__ = ["directory_lock", "empty_directory"]


@contextmanager
def directory_lock(folder: Path) -> Iterator[None]:
    """Make a folder, which may be there already, and keep other commands out of it while inside.

    Raises UserError when another command is inside, and OSError. Without effect where the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink():
        raise OSError(errno.ENOTDIR, "is a link", str(folder))
    with unheld(folder) as is_free:
        if not is_free:
            problem = Problem(
                message="is filled just now", file=str(folder), hint="wait for it, or choose another output"
            )
            raise UserError("another command writes the same output; this one wrote nothing", [problem])
        yield


def empty_directory(folder: Path) -> None:
    """Remove all that is in a folder, but nothing behind links. Raises OSError."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
