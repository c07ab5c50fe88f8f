"""Keeps a checkpoint while it is read: a run that goes on removes only checkpoints that nobody holds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import finalize

__all__ = ["Hold", "held_in_turn", "unheld"]


class Hold:
    """Keeps a checkpoint's folder as long as this object lives; the kernel ends it with the process.

    A shared lock on the folder itself, so nothing is written and nothing stays behind. Without effect where the file
    system has no locks, and for runs on other machines where its locks are for one machine.
    """

    def __init__(self, checkpoint: Path) -> None:
        """Raises FileNotFoundError when it was removed before."""
        try:
            folder = os.open(checkpoint, os.O_RDONLY)
        except FileNotFoundError:
            raise
        except OSError:  # Reading it says so, if it matters.
            return
        finalize(self, os.close, folder)
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(folder), checkpoint.stat()):
            raise FileNotFoundError(checkpoint)


def held_in_turn(checkpoints: Iterable[Path]) -> Iterator[Path]:
    """Each that is still there when its turn comes, held until the next one is asked for."""
    for checkpoint in checkpoints:
        try:
            hold = Hold(checkpoint)
        except FileNotFoundError:
            continue
        yield checkpoint
        del hold


@contextmanager
def unheld(checkpoint: Path) -> Iterator[bool]:
    """Whether nobody holds a checkpoint, nor begins to while inside. Raises OSError when it is gone."""
    folder = os.open(checkpoint, os.O_RDONLY)
    try:
        yield _locked(folder)
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # The file system has no locks.
        pass
    return True
