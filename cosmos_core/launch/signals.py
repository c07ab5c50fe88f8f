"""Signal handlers for the time of a block."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["handling_signals", "stopping"]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def stopping(number: int) -> str:
    """What to tell people about the first signal."""
    again = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return f"finishing the step, then saving a checkpoint and stopping; {again} once more ends at once, without saving"


@contextmanager
def handling_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` on SIGINT and SIGTERM while inside; the previous handlers return afterwards.

    Python lets only the main thread set handlers. In any other thread, signals stay with whoever handles them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, before in previous.items():
            # None stands for a handler that Python did not install and cannot install again.
            signal.signal(number, signal.SIG_DFL if before is None else before)
