"""Seconds per step and tokens per second, over windows of the run."""

from __future__ import annotations

from cosmos_core.builtin.config import IterSpeed
from cosmos_core.strict_json import dumps
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.trainer import Trainer

__all__ = ["IterSpeedCallback"]


class IterSpeedCallback(Callback):
    """``iter_speed.jsonl``: means over the last `every_n` steps, without the first `skip` steps of a process."""

    config: IterSpeed

    def __init__(self, config: IterSpeed, context: CallbackContext) -> None:
        super().__init__(config, context)
        self._seen = self._last = 0
        self._seconds = self._waited = 0.0
        self._tokens = self._steps = 0

    def step_end(self, trainer: Trainer) -> None:
        """Add the newest record; write a mean when the window is full."""
        self._add(trainer)
        if self._steps == self.config.every_n:
            self._write(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Write what is left."""
        self._add(trainer)
        self._write(trainer)

    def _add(self, trainer: Trainer) -> None:
        record = trainer.record
        if record.get("step", self._last) == self._last:
            return
        self._last = record["step"]
        self._seen += 1
        if self._seen > self.config.skip:
            self._seconds += record["seconds"]
            self._waited += record["data_wait"]
            self._tokens += record["tokens"]
            self._steps += 1

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_main and self._steps:
            summary = {
                "step": self._last,
                "seconds_per_step": self._seconds / self._steps,
                "tokens_per_second": self._tokens / self._seconds,
                "data_wait_share": self._waited / self._seconds,
            }
            with (self.context.folder / "iter_speed.jsonl").open("a", encoding="utf-8") as file:
                file.write(dumps(summary) + "\n")
        self._seconds = self._waited = 0.0
        self._tokens = self._steps = 0
