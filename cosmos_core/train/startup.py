"""Seconds of each phase between a command and its first finished step.

Long ones are logged, all are kept in the launch's record.
"""

from __future__ import annotations

import logging
import time

__all__ = ["StartUp"]

logger = logging.getLogger(__name__)

WORTH_TELLING = 1.0
"""Seconds; shorter phases are recorded only."""


class StartUp:
    """A clock with laps. begun: seconds since the epoch, of the first phase's start; now when absent.

    seconds: of every phase so far, in order. silent: nothing is logged, for ranks other than 0.
    """

    def __init__(self, begun: float | None = None, *, silent: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self.silent = silent
        self._last = time.time() if begun is None else begun

    def split(self, phase: str, seconds: float) -> None:
        """Count the first `seconds` of the phase under way as another one; nothing where there are none."""
        if seconds:
            self.mark(phase, at=self._last + seconds)

    def mark(self, phase: str, at: float | None = None) -> None:
        """End a phase now, or at an earlier time; the next begins then."""
        end = max(self._last, time.time() if at is None else at)
        self.seconds[phase] = round(end - self._last, 3)
        self._last = end
        if not self.silent and self.seconds[phase] >= WORTH_TELLING:
            logger.info("start: %s took %.1f s", phase, self.seconds[phase])
