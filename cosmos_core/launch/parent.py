"""A process that belongs to the one that started it: ranks, their loader workers and savers."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

from cosmos_core.refs import Ref
from cosmos_core.stop_signals import STOP_SIGNALS

__all__ = ["child_command", "follow_parent", "set_parent_death_signal"]

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
# Looked up here, not in a forked child: another thread of the parent may have held the loader's lock during the fork.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def child_command(program: Ref, *arguments: str) -> list[str]:
    """Arguments of the interpreter that run `program`, which returns the exit code, in a child of this process."""
    return ["-m", "cosmos_core.launch.child", str(os.getpid()), program.text, *arguments]


def set_parent_death_signal(parent: int) -> None:
    """Ask the kernel to kill this process when the process `parent` ends, for whatever reason.

    Children live in sessions of their own, so nothing else tells them that the launcher was killed: they would go on
    training in a run directory that the next launch takes over. Does nothing outside Linux.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # It ended before the kernel was asked.
            os._exit(1)


def follow_parent(parent: int) -> None:
    """End when the process `parent` ends, and leave the signals of a stop to it. Does nothing outside Linux.

    Only the parent's own SIGTERM still ends this process, at once. Signals that arrive from anywhere else are dropped:
    the launcher gets them too. Called by a process's first thread before it starts others, as early as possible.
    """
    set_parent_death_signal(parent)
    if sys.platform == "linux":
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # In every thread from now on.
        threading.Thread(target=_end_on_sigterm, args=(parent,), name="signals", daemon=True).start()


def _end_on_sigterm(parent: int) -> None:
    while sys.platform == "linux":
        received = signal.sigwaitinfo(STOP_SIGNALS)
        if received.si_signo == signal.SIGTERM and received.si_pid == parent:
            os._exit(0)
