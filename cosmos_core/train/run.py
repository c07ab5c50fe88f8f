"""Everything one process holds while a run lasts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from cosmos_core.checkpoint.base import AdapterBase
from cosmos_core.checkpoint.save import save_checkpoint
from cosmos_core.checkpoint.state import model_state, optimizer_state, random_state
from cosmos_core.data.loader import PackedLoader
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.lora import trains_only_lora
from cosmos_core.plan.layout import RunLayout
from cosmos_core.train.callback import Callback
from cosmos_core.train.nonfinite import NonFiniteGuard
from cosmos_core.train.pending import PendingRow
from cosmos_core.train.state import TrainState
from cosmos_core.train.stop import StopRequests
from cosmos_core.train.tracker import Tracker

__all__ = ["Run", "Trackers"]

logger = logging.getLogger(__name__)


class Trackers:
    """All trackers as one; a tracker that fails is dropped with a warning and never ends a run."""

    def __init__(self, trackers: dict[str, Tracker]) -> None:
        self._trackers = trackers

    def call(self, event: str, *arguments: Any) -> None:
        """`start`, `log` or `finish` on each."""
        for name, tracker in list(self._trackers.items()):
            try:
                getattr(tracker, event)(*arguments)
            except Exception:
                logger.exception("tracker '%s' failed and is switched off; the run goes on", name)
                del self._trackers[name]

    def log(self, row: dict[str, Any]) -> None:
        """One row to each."""
        self.call("log", row)


@dataclass(slots=True)
class Run:
    """State, parts and collaborators of the loop. rate_names: the log's words for the groups' rates."""

    state: TrainState
    layout: RunLayout
    scheduler: LambdaLR
    ema: Ema | None
    loader: PackedLoader
    validation: PackedLoader | None
    callbacks: dict[str, Callback]
    trackers: Trackers
    stop: StopRequests
    loader_state: dict[str, Any]
    guard: NonFiniteGuard
    rate_names: tuple[str, ...]
    base: AdapterBase | None = None
    saved_step: int = -1
    pending: PendingRow | None = None

    def emit(self, event: str, *arguments: Any) -> None:
        """Call one event on every callback, in order."""
        for callback in self.callbacks.values():
            getattr(callback, event)(self.state, *arguments)

    def settle(self) -> None:
        """Finish the last step: its figures go to the log, the average takes its weights in.

        Raises RunFailed when its loss or gradients are not finite and the run must not go on.
        """
        pending, self.pending = self.pending, None
        if pending is None:
            return
        row = pending.row()
        self.state.metrics = row
        self.trackers.log(row)
        if self.guard.judge(row, pending.micro_batches()) and self.ema is not None:
            self.ema.update(pending.step)

    def save(self) -> Path:
        """Write a checkpoint of the state after `state.step` steps."""
        self.settle()
        state = self.state
        self.guard.check_before_saving(state.step)
        components: dict[str, dict[str, Any]] = {
            "model": dict(model_state(state.model, self.ema, adapters_only=trains_only_lora(state.model))),
            "optim": optimizer_state(state.model, state.optimizer),
            "scheduler": self.scheduler.state_dict(),
            "trainer": {
                "iteration": state.step,
                "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
                f"rng_state_{state.mesh.rank}": random_state(),
            },
        }
        path = save_checkpoint(
            self.layout.checkpoints, state.step, components, self.loader_state, state.mesh, base=self.base
        )
        self.saved_step = state.step
        self.emit("checkpoint_saved", path)
        return path
