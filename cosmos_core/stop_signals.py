"""The signals that ask a run to stop, and what they do before anything was started.

A module of its own that imports next to nothing, since a signal may come while everything else is still imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from types import FrameType

__all__ = ["STOP_SIGNALS", "end_at_once_on"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_STOPPED, _INTERRUPTED = 75, 130
"""Exit codes of a run that was stopped, as in `cosmos_core.launch.outcome`."""


def end_at_once_on(signals: Iterable[signal.Signals]) -> None:
    """From now on each of these signals ends this process as a stopped run ends; one that is ignored stays ignored.

    For the time before there is anything to save: an exception would leave a traceback of whatever is being imported.
    """
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{signal.Signals(number).name}: ended before anything was started\n".encode())
    os._exit(_INTERRUPTED if number == signal.SIGINT else _STOPPED)
