"""Goes back to the last good checkpoint when a step was not finite, and past the data that led there.

See docs/training.md, Going back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import frozen

from cosmos_core.checkpoint.state import random_state, restore_random_state
from cosmos_core.config.run import TrainerConfig
from cosmos_core.data.resume import plain
from cosmos_core.distributed.fsdp import reshard
from cosmos_core.distributed.reduce import gather_objects
from cosmos_core.errors import Problem
from cosmos_core.names import counted
from cosmos_core.plan.checkpoint import damaged
from cosmos_core.plan.manifest import damage
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plan.record import add_to_record, replace_file
from cosmos_core.strict_json import dumps
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.nonfinite import NotFinite

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["Rollbacks"]

logger = logging.getLogger(__name__)

BEGINNING: dict[str, dict[str, Any]] = {"optim": {}, "scheduler": {"last_epoch": 0}, "trainer": {"iteration": 0}}
"""The state of a trainer before its first step, without weights."""

Samples = list[list[tuple[str, str]]]
"""Key and dataset of each sample of a step, by micro-batch."""


@frozen(eq=False)
class _Start:
    """What a checkpoint may lack, as this process began with it."""

    callbacks: dict[str, dict[str, Any]]
    random: dict[str, Any]


class Rollbacks:
    """How often the run went back, and what the next time needs. All methods are called on every rank.

    count: rollbacks of the whole run up to now; part of its checkpoints.
    """

    def __init__(self, config: TrainerConfig) -> None:
        self.enabled, self.limit = config.on_nonfinite == "rollback", config.max_rollbacks
        self.count = 0
        self._start: _Start | None = None
        self._trained: deque[tuple[int, Samples]] = deque()
        self._recorded: dict[str, dict[str, Any]] = {}

    def begin(self, trainer: Trainer) -> None:
        """Before the first step of this process."""
        if self.enabled:
            states = {name: values for name, callback in trainer.callbacks.items() if (values := callback.state_dict())}
            self._start = _Start(deepcopy(states), random_state())

    def note(self, trainer: Trainer) -> None:
        """A step was trained: its samples may have to be named until a checkpoint holds it."""
        if self.enabled:
            self._trained.append((trainer.step, trainer.samples))
            while self._trained[0][0] <= trainer.saved_step:
                self._trained.popleft()

    def go_back(self, trainer: Trainer, failure: NotFinite) -> None:
        """Restore everything but the place in the data, which stays after the failed step.

        Raises `failure` when the run may not go back, UserError when the checkpoint is damaged.
        """
        if not self.enabled:
            raise failure
        if self.count >= self.limit:
            message = f"the run went back {self.count} times before, as often as trainer.max_rollbacks allows"
            hint = "lower optimizer.lr, look at these samples, or raise it to leave out the data since that checkpoint"
            raise failure.because(Problem(message=message, hint=hint)) from None
        trainer.saves.settle()  # A save under way counts, and must not see what follows.
        trainer.activity.enter("going back to a checkpoint")
        failed, count = trainer.step, self.count + 1
        data = gather_objects(plain(trainer.loader_state), trainer.mesh)
        self._restore(trainer, _last_good(trainer))
        trainer.loader.load_state(data)
        trainer.loader_state = trainer.loader.state()
        self.count = count
        self._report(trainer, failed, failure)
        self._trained.clear()
        trainer.trackers.rewind(trainer.step)
        trainer.emit("rolled_back")

    def _restore(self, trainer: Trainer, source: WeightSource) -> None:
        # The moments first: there may be no memory for both.
        trainer.optimizer.state.clear()
        trainer.model.zero_grad(set_to_none=True)
        reshard(trainer.model)
        assert self._start is not None, "begin() was called"
        restore_random_state(self._start.random)
        for name, values in deepcopy(self._start.callbacks).items():
            trainer.callbacks[name].load_state_dict(values)
        load_training_state(trainer, source, again=True)
        if source.kind != "resume":
            trainer.load_state_dict(BEGINNING, ())
        reshard(trainer.model)

    def _report(self, trainer: Trainer, failed: int, failure: NotFinite) -> None:
        """To the log and to the record of the launch, with the samples that were left out."""
        lines = gather_objects(self._left_out(trainer), trainer.mesh)
        if not trainer.is_main:
            return
        left_out = [line for of_rank in lines for line in of_rank]
        file_name = ""
        if trainer.launch is not None:
            file = trainer.paths.launch(trainer.launch).left_out(self.count)
            replace_file(file, "".join(f"{dumps(line)}\n" for line in left_out).encode())
            file_name = f": {file}"
            facts = {"from": failed, "to": trainer.step, "why": failure.symptom, "samples": len(left_out)}
            self._recorded[str(self.count)] = {**facts, "blamed": failure.blamed, "left_out": file.name}
            add_to_record(trainer.paths, trainer.launch, "rollbacks", self._recorded)
        logger.warning(
            "step %d: %s; back to step %d (rollback %d of %d); the data go on after step %d, without %s%s%s",
            *(failed, failure.symptom, trainer.step, self.count, self.limit, failed),
            counted(len(left_out), "sample"),
            file_name,
            "".join(f"\n  {text}" for text in failure.blamed),
        )

    def _left_out(self, trainer: Trainer) -> list[dict[str, Any]]:
        """This rank's samples since the step that the run went back to; context-parallel peers share theirs."""
        mesh = trainer.mesh
        if mesh.rank % mesh.degrees.context:
            return []
        return [
            {"step": step, "micro_batch": number, "rank": mesh.rank, "key": key} | ({"dataset": name} if name else {})
            for step, micro_batches in self._trained
            if step > trainer.step
            for number, samples in enumerate(micro_batches)
            for key, name in samples
        ]


def _last_good(trainer: Trainer) -> WeightSource:
    """The run's newest checkpoint, or before the first one what it started from. Raises UserError for a damaged one."""
    own = trainer.paths.iteration(trainer.saved_step)
    exists, wrong = gather_objects(_state_of(own), trainer.mesh)[0]
    if wrong:
        hint = "remove it and run the same command again: it resumes from the checkpoint before"
        raise damaged(own, wrong, "the run could not go back to it", hint)
    return WeightSource(kind="resume", path=own) if exists else trainer.source


def _state_of(checkpoint: Path) -> tuple[bool, Sequence[str]]:
    exists = checkpoint.is_dir()
    return exists, damage(checkpoint) if exists else []
