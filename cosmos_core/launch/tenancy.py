"""One launch at a time in a run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.layout import RunLayout

__all__ = ["check_free", "tenancy"]


@contextmanager
def tenancy(layout: RunLayout) -> Iterator[None]:
    """Hold a run directory while inside; it falls free with the process, however that ends.

    A record lock, because children that are forked do not inherit it. Raises UserError when another process holds it.
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    with layout.tenant.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise _in_use(layout, file.read().strip()) from None
        except OSError:
            yield  # A filesystem without locks.
            return
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


def check_free(layout: RunLayout) -> None:
    """Raises UserError when another process holds a run directory; changes nothing in it."""
    if not layout.tenant.is_file():
        return
    with layout.tenant.open(encoding="utf-8") as file, suppress(OSError):  # A filesystem without locks.
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise _in_use(layout, file.read().strip()) from None


def _in_use(layout: RunLayout, holder: str) -> UserError:
    problem = Problem(
        message=f"process {holder or 'of another machine'} is running in it",
        file=str(layout.root),
        hint="wait for it, stop it, or take another directory with --fresh",
    )
    return UserError("the run directory is in use; nothing was started", [problem])
