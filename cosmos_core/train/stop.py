"""Requests to save and stop: a signal to this process, or a file in the run directory."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from cosmos_core.launch.signals import handling_signals, stopping

__all__ = ["StopRequests"]

logger = logging.getLogger(__name__)


class StopRequests:
    """The first signal asks to stop after the current step, a second one interrupts at once.

    interrupted: the request came from the keyboard.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._signalled = False
        self.interrupted = False

    @property
    def pending(self) -> bool:
        """Whether this process was asked to stop."""
        return self._signalled or self._file.exists()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals while inside; the previous handlers return afterwards."""
        with handling_signals(self._receive):
            yield

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
        self.interrupted = number == signal.SIGINT
        # From a thread: the interrupted code may hold the lock of what prints.
        threading.Thread(target=logger.warning, args=("%s", stopping(number))).start()
