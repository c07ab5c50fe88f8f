"""What a metrics sink implements."""

from __future__ import annotations

from typing import Any, Protocol

from cosmos_core.plan.plan import RunPlan

__all__ = ["Tracker"]


class Tracker(Protocol):
    """Built as ``Tracker(config)``; lives on rank 0 only."""

    def start(self, plan: RunPlan, step: int) -> None:
        """The run begins, or resumes after `step` completed steps."""
        ...

    def log(self, row: dict[str, Any]) -> None:
        """One row: a finished step (`step`, `loss`, `lr`, `grad_norm`, `tokens`, `seconds`, `data_wait`) or a
        validation (`step`, `val_loss`)."""
        ...

    def finish(self, outcome: str) -> None:
        """The run ended: 'done', 'stopped' or 'failed'."""
        ...
