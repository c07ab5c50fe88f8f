"""Who reacts to the signals that ask a run to stop.

Schedulers and terminals signal every process of a run, so one process of a launch reacts and the others must not:
the launcher, or each rank that something else than our launcher started.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cosmos_core.stop_signals import STOP_SIGNALS

__all__ = ["handling_signals", "stops_blocked"]


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None], *, until_exit: bool = False) -> Iterator[None]:
    """Call `handler` on the signals of a stop while inside; the previous handlers return afterwards.

    until_exit: they do not, since the process ends next, and a repeated signal must not change its exit code.

    A signal that is ignored stays ignored, which is how `nohup` works. Python lets only the main thread set handlers.
    In any other thread, signals stay with whoever handles them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, before in previous.items() if not until_exit else ():
            # None stands for a handler that Python did not install and cannot install again.
            signal.signal(number, signal.SIG_DFL if before is None else before)


@contextmanager
def stops_blocked() -> Iterator[None]:
    """Processes started inside begin with the signals of a stop blocked; `follow_parent` then decides about them.

    So no signal finds them before they are ready for it.
    """
    if sys.platform != "linux":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
