"""Metrics to TensorBoard event files; a `[trackers.tensorboard]` table switches it on, unless it is disabled there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cosmos_core.builtin.config import Tensorboard
from cosmos_core.data.samples import Answer
from cosmos_core.plan.plan import RunPlan

__all__ = ["TensorboardTracker"]


class TensorboardTracker:
    """Scalars under ``<run directory>/tensorboard/``; a resumed run writes over what it repeats."""

    def __init__(self, config: Tensorboard) -> None:
        self.config = config
        self._writer: Any = None

    def start(self, plan: RunPlan, step: int) -> None:
        """Open the event file."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(plan.run_dir / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, record: dict[str, Any]) -> None:
        """One scalar a metric; validation metrics under ``val/``."""
        prefix = "val" if "val_loss" in record else "train"
        for name, value in record.items():
            if name != "step":
                self._writer.add_scalar(f"{prefix}/{name}", value, record["step"])

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """A text a sample."""
        for answer in answers:
            text = f"answered: {answer.prediction}\n\nthe data says: {answer.reference}"
            self._writer.add_text(f"val/answers/{answer.key}", text, step)

    def finish(self, outcome: str) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
