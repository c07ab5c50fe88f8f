"""The lock of a run directory: one launch at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.paths import OTHER_PLACE, RunPaths

__all__ = ["check_free", "is_locked", "run_lock"]


@contextmanager
def run_lock(paths: RunPaths) -> Iterator[None]:
    """Hold the lock of a run directory while inside; the kernel releases it when the process exits.

    It is a record lock (fcntl), which forked children do not inherit. Raises UserError when another process holds it.
    """
    try:
        paths.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = Problem(message=str(error.strerror), file=str(paths.root), hint=OTHER_PLACE)
        raise UserError("the run directory cannot be made; nothing was started", [problem]) from None
    with paths.lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise _in_use(paths, file.read().strip()) from None
        except OSError:
            yield  # The filesystem has no locks.
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def check_free(paths: RunPaths) -> None:
    """Raises UserError when another process holds a run directory; changes nothing in it."""
    holder = _holder(paths)
    if holder is not None:
        raise _in_use(paths, holder)


def is_locked(paths: RunPaths) -> bool:
    """Whether another process holds a run directory; changes nothing in it."""
    return _holder(paths) is not None


def _holder(paths: RunPaths) -> str | None:
    """The text that the other process wrote into the lock; None when none holds it."""
    if not paths.lock.is_file():
        return None
    with paths.lock.open(encoding="utf-8") as file, suppress(OSError):  # A filesystem without locks.
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return file.read().strip()
    return None


def _in_use(paths: RunPaths, holder: str) -> UserError:
    problem = Problem(
        message=f"process {holder or 'of another machine'} is running in it",
        file=str(paths.root),
        hint="wait for it, stop it, or take another directory with --fresh",
    )
    return UserError("the run directory is in use; nothing was started", [problem])
