"""Seconds a step and tokens a second, over windows of the run."""

from __future__ import annotations

from cosmos_core.builtin.config import IterSpeed
from cosmos_core.strict_json import dumps
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.state import TrainState

__all__ = ["IterSpeedCallback"]


class IterSpeedCallback(Callback):
    """``iter_speed.jsonl``: means over the last `every_n` steps, the first `skip` steps of a process left out."""

    config: IterSpeed

    def __init__(self, config: IterSpeed, context: CallbackContext) -> None:
        super().__init__(config, context)
        self._seen = self._last = 0
        self._seconds = self._waited = 0.0
        self._tokens = self._steps = 0

    def step_end(self, state: TrainState) -> None:
        """Add the newest row; write a mean when the window is full."""
        self._add(state)
        if self._steps == self.config.every_n:
            self._write(state)

    def train_end(self, state: TrainState) -> None:
        """Write what is left."""
        self._add(state)
        self._write(state)

    def _add(self, state: TrainState) -> None:
        row = state.metrics
        if row.get("step", self._last) == self._last:
            return
        self._last = row["step"]
        self._seen += 1
        if self._seen > self.config.skip:
            self._seconds += row["seconds"]
            self._waited += row["data_wait"]
            self._tokens += row["tokens"]
            self._steps += 1

    def _write(self, state: TrainState) -> None:
        if state.is_main and self._steps:
            row = {
                "step": self._last,
                "seconds_per_step": self._seconds / self._steps,
                "tokens_per_second": self._tokens / self._seconds,
                "data_wait_share": self._waited / self._seconds,
            }
            with (self.context.folder / "iter_speed.jsonl").open("a", encoding="utf-8") as file:
                file.write(dumps(row) + "\n")
        self._seconds = self._waited = 0.0
        self._tokens = self._steps = 0
