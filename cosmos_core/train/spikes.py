"""Losses and gradient norms far above what is usual: marked in the step's row, and logged with the samples."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import Any

from cosmos_core.train.nonfinite import MicroBatchLoss

__all__ = ["Spikes", "is_spikes_state"]

logger = logging.getLogger(__name__)

METRICS = {"loss": "loss", "grad_norm": "gradient norm"}
WINDOW = 100
"""Steps that say what is usual."""
MIN_STEPS = 50
"""Steps before the first that may be a spike."""
STEPS_BETWEEN_WARNINGS = 100
"""Steps between two warnings."""
STANDARD_DEVIATION_OF_MAD = 1.4826
"""Standard deviation of a normal distribution, in units of its median absolute deviation (MAD)."""
MIN_SPREAD = 0.05
"""Of the median: where values hardly change, a small change is no spike."""


class Spikes:
    """Compares each step with the last ones, by values that are on the host already.

    The spread is the median absolute deviation, scaled to a standard deviation, so a few spikes do not change it.
    """

    def __init__(self, factor: float, rank: int) -> None:
        """factor: spreads above the median from which on a value is a spike; 0 switches this off."""
        self._factor, self._rank = factor, rank
        self._recent: deque[list[float]] = deque(maxlen=WINDOW)
        self._warned: int | None = None
        self._untold = 0

    def marked(self, record: dict[str, Any], micro_batches: Sequence[MicroBatchLoss]) -> dict[str, Any]:
        """The record; of a spike with ``spike``, how many spreads it lies above the median.

        Steps that are not finite are no spikes. micro_batches: of this rank.
        """
        values = [record[name] for name in METRICS]
        if not self._factor or not all(map(math.isfinite, values)):
            return record
        before = list(self._recent)
        self._recent.append(values)
        if len(before) < MIN_STEPS:
            return record
        heights = [_height(value, usual) for value, usual in zip(values, zip(*before, strict=True), strict=True)]
        if max(heights) < self._factor:
            return record
        self._warn(record, list(METRICS)[heights.index(max(heights))], max(heights), micro_batches)
        return {**record, "spike": max(heights)}

    def _warn(self, record: dict[str, Any], name: str, height: float, micro_batches: Sequence[MicroBatchLoss]) -> None:
        """All ranks judge alike; rank 0 tells the console, each one its own log file."""
        step = record["step"]
        if self._warned is not None and 0 <= step - self._warned < STEPS_BETWEEN_WARNINGS:
            self._untold += 1
            return
        untold = f"; {self._untold} more since step {self._warned}, see metrics.jsonl" if self._untold else ""
        self._warned, self._untold = step, 0
        logger.log(
            logging.WARNING if self._rank == 0 else logging.INFO,
            "step %d: %s %g is a spike, %.0f times the usual spread above the median; rank %d: %s%s",
            *(step, METRICS[name], record[name], height, self._rank),
            "; ".join(batch.described for batch in micro_batches),
            untold,
        )

    def state(self) -> list[list[float]]:
        """Loss and gradient norm of the last steps, for a checkpoint: a resumed run marks the same steps."""
        return list(self._recent)

    def load_state(self, state: Sequence[list[float]]) -> None:
        """Go on after these steps."""
        self._recent.clear()
        self._recent.extend(state)


def _height(value: float, usual: Sequence[float]) -> float:
    """Spreads above the median."""
    middle = median(usual)
    spread = max(STANDARD_DEVIATION_OF_MAD * median(abs(recent - middle) for recent in usual), MIN_SPREAD * abs(middle))
    return (value - middle) / spread if spread else 0.0


def is_spikes_state(state: Any) -> bool:
    """Whether `Spikes.state` could have given this."""
    return isinstance(state, list) and all(
        isinstance(step, list) and len(step) == len(METRICS) and all(type(value) is float for value in step)
        for step in state
    )
