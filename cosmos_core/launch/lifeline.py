"""What keeps ranks from outliving the command that started them."""

from __future__ import annotations

import ctypes
import signal
import sys

__all__ = ["end_with_parent"]

PR_SET_PDEATHSIG = 1
"""prctl(2)."""


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it is gone, however it went; Linux alone can.

    torchrun and its ranks live in sessions of their own, so that nothing else tells them of a launcher's SIGKILL: they
    would go on in a run directory that the next launch takes over.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
