"""Progress of a long task: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from cosmos_core.config.env import launched_rank
from cosmos_core.console.layout import amount, bar_line, clock, fit
from cosmos_core.console.terminal import is_terminal, kept, show

__all__ = ["Progress", "progress"]

logger = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between lines where there is no terminal."""


class Progress:
    """Counts what is done. total may grow while the task runs."""

    def __init__(self, task: str, total: float, unit: str, *, lines: bool) -> None:
        self.task, self.total, self.unit = task, total, unit
        self.done = 0.0
        self._lines = lines
        self._begun = self._told = time.monotonic()
        self._lock = Lock()

    def advance(self, amount: float = 1) -> None:
        """So much more is done. May be called from several threads."""
        with self._lock:
            self.done += amount
            due = self._lines and time.monotonic() - self._told >= EVERY
            if due:
                self._told = time.monotonic()
        if due:
            self._tell()

    def line(self, width: int) -> str:
        """The line on a terminal."""
        if not self.total:
            return fit([self.task], width)
        return bar_line(self.task, self._fraction(), [self._amount(), f"eta {self._eta()}"], width)

    def end(self) -> None:
        """Note in the log how long it took."""
        logger.debug("%s: %s in %s", self.task, self._amount(), clock(self._seconds()))

    def _tell(self) -> None:
        text = f"{self.task}: {self._amount()}, {int(100 * self._fraction())}%, eta {self._eta()}"
        show(text)
        logger.debug("%s", text)

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _fraction(self) -> float:
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def _amount(self) -> str:
        return amount(self.done, self.total, self.unit)

    def _eta(self) -> str:
        left = max(self.total - self.done, 0.0)
        return clock(left * self._seconds() / self.done) if self.done else "-:--:--"


@contextmanager
def progress(task: str, total: float = 0, unit: str = "", *, shown: bool = True) -> Iterator[Progress]:
    """Show how far a task is, on stderr, while inside; call `advance` on the result.

        with progress("writing clips", len(clips), "clips") as writing:
            for clip in clips:
                ...
                writing.advance()

    total: of what `advance` adds up. unit: "bytes" are told in MiB or GiB. shown: false on all processes but one;
    of the ranks of a run, rank 0 shows it.
    """
    launched = launched_rank()
    shown = shown and (launched is None or launched.rank == 0)
    running = Progress(task, total, unit, lines=shown and not is_terminal())
    if shown:
        with kept(running.line):
            yield running
    else:
        yield running
    running.end()
