"""Names the rank that the others wait for: the one that waits least where all ranks meet in a step."""

from __future__ import annotations

import logging
from collections.abc import Sequence

__all__ = ["Stragglers"]

logger = logging.getLogger(__name__)

MIN_SHARE = 0.1
"""Of a step's time; waiting for less is not worth a line."""
MIN_STEPS = 10
"""To judge on; single steps differ by chance."""


class Stragglers:
    """Adds up how long each rank waited, and logs when a rank holds the others up. A rank is named once in a row."""

    def __init__(self, every: int) -> None:
        """every: steps between two judgements, if that is enough of them."""
        self._every = max(every, MIN_STEPS)
        self._waits: list[float] = []
        self._seconds = 0.0
        self._steps = 0
        self._named: int | None = None

    def add(self, waits: Sequence[float], seconds: float) -> None:
        """waits: seconds that each rank waited in a step, by rank. seconds: the step took."""
        self._waits = [a + b for a, b in zip(self._waits or [0.0] * len(waits), waits, strict=True)]
        self._seconds += seconds
        self._steps += 1
        if self._steps == self._every:
            self._judge()
            self._waits, self._seconds, self._steps = [], 0.0, 0

    def _judge(self) -> None:
        least = min(self._waits)
        rank = self._waits.index(least)
        others = (sum(self._waits) - least) / (len(self._waits) - 1)
        if others - least < MIN_SHARE * self._seconds:
            self._named = None
        elif rank != self._named:
            self._named = rank
            logger.warning(
                "rank %d holds the others up: they wait %.2f s a step for it, it waits %.2f s, of %.2f s; look at its "
                "data and its machine",
                rank,
                others / self._steps,
                least / self._steps,
                self._seconds / self._steps,
            )
