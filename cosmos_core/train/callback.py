"""The nine events of a run, and the state of a callback in a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["Callback", "CallbackContext"]


@frozen
class CallbackContext:
    """folder: the callback's own folder in the run directory; exists on rank 0. run_dir: the run directory."""

    folder: Path
    run_dir: Path


class Callback:
    """Base of all callbacks; by default an event does nothing. Events run on every rank, in this order."""

    def __init__(self, config: Any, context: CallbackContext) -> None:
        self.config = config
        self.context = context

    def train_start(self, trainer: Trainer) -> None:
        """Everything is built and loaded; no step of this process has run."""

    def step_start(self, trainer: Trainer) -> None:
        """Before the micro-batches of a step are fetched."""

    def after_backward(self, trainer: Trainer) -> None:
        """After the backward pass of one micro-batch, or of one of its parts."""

    def before_optimizer_step(self, trainer: Trainer) -> None:
        """Gradients are complete and unclipped."""

    def step_end(self, trainer: Trainer) -> None:
        """After the update; `trainer.step` counts it."""

    def checkpoint_saved(self, trainer: Trainer, path: Path) -> None:
        """A checkpoint is complete and visible at `path`; `trainer.step` may be some steps further."""

    def rolled_back(self, trainer: Trainer) -> None:
        """After a step that was not finite an earlier state is restored; the run goes on after `trainer.step`."""

    def train_end(self, trainer: Trainer) -> None:
        """The loop ended normally, at its end or on a stop request."""

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """The loop raised an exception; called instead of `train_end`."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors to save in the checkpoint.

        Checkpoints hold them under the callback's name and under these keys, so neither may change: a run that resumes
        would not find them. Of a dictionary those entries come back that the new process's has. `load_state_dict` must
        take what an older version of the callback wrote.
        """
        return {}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        """What `state_dict` returned when the checkpoint was written."""
