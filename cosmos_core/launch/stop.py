"""Requests to save and stop: signals to this process, and a file in the run directory."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Self

from cosmos_core.console.terminal import show_beside
from cosmos_core.launch.signals import handling_signals

__all__ = ["SAME_STOP_SECONDS", "StopRequests"]

SAME_STOP_SECONDS = 5.0
"""So long after the first signal, more signals belong to the same stop: senders repeat them and pass them on."""


class StopRequests:
    """The first signal asks to stop after the current step. A later SIGINT or SIGTERM raises KeyboardInterrupt.

    file: asks for a stop too while it exists; it may hold the name of the signal. announce: tells people.
    """

    def __init__(self, file: Path | None = None) -> None:
        self.file = file
        self.announce: Callable[[str], object] = show_beside
        self._passed_on = self._over = False
        self._signal: signal.Signals | None = None
        self._received = 0.0

    @property
    def pending(self) -> bool:
        """Whether a stop was asked for."""
        return self._signal is not None or (self.file is not None and self.file.exists())

    @property
    def outcome(self) -> str:
        """Of a run that stopped: 'interrupted' when the keyboard asked, else 'stopped'."""
        return "interrupted" if self._first_signal() == signal.SIGINT.name else "stopped"

    def pass_on(self, file: Path) -> None:
        """From now on write requests to `file`, for the ranks; also one that came before."""
        self.file, self._passed_on = file, True
        if self._signal is not None:
            self._ask(file)

    @contextmanager
    def listening(self, *, until_exit: bool = False) -> Iterator[Self]:
        """Handle signals while inside. Afterwards the previous handlers return, unless the process ends next."""
        try:
            with handling_signals(self._receive, until_exit=until_exit):
                yield self
        finally:
            self._over = True

    def _first_signal(self) -> str:
        if self._signal is not None:
            return self._signal.name
        try:
            return "" if self.file is None else self.file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            return ""

    def _ask(self, file: Path) -> None:
        assert self._signal is not None
        with suppress(OSError):  # On a full disk the file is empty, and asks too.
            file.write_text(self._signal.name)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            later = time.monotonic() > self._received + SAME_STOP_SECONDS
            if later and number in (signal.SIGINT, signal.SIGTERM):
                raise KeyboardInterrupt
            return
        self._received = time.monotonic()
        self._signal = signal.Signals(number)
        if self._over:
            return
        if self._passed_on and self.file is not None:
            self._ask(self.file)
        text = (
            f"{self._signal.name}: finishing the step, then saving a checkpoint and stopping; Ctrl-C or SIGTERM after "
            f"{SAME_STOP_SECONDS:g} seconds ends at once, without saving"
        )
        # From a thread: the interrupted code may hold the lock of what prints.
        threading.Thread(target=self.announce, args=(text,)).start()
