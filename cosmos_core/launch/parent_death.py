"""The parent-death signal: ranks never outlive the command that started them."""

from __future__ import annotations

import ctypes
import signal
import sys

__all__ = ["set_parent_death_signal"]

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def set_parent_death_signal() -> None:
    """Ask the kernel to kill this process when its parent ends, for whatever reason. Does nothing outside Linux.

    torchrun and its ranks live in sessions of their own, so nothing else tells them that the launcher was killed: they
    would go on training in a run directory that the next launch takes over.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
