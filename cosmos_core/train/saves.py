"""When a run is saved, and the one save that goes on in the background while training does."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from cosmos_core.checkpoint.background import BackgroundSaver
from cosmos_core.checkpoint.job import SaveJob
from cosmos_core.checkpoint.save import SaveFailed
from cosmos_core.checkpoint.staging import size_of
from cosmos_core.checkpoint.state import LIVE
from cosmos_core.config.env import launched_rank
from cosmos_core.data.resume import plain
from cosmos_core.data.sampler import ONE_DATASET_FORMAT
from cosmos_core.distributed.host_memory import free_host_memory
from cosmos_core.distributed.reduce import any_rank, gather_objects

if TYPE_CHECKING:
    from cosmos_core.train.fetch import StepBatches
    from cosmos_core.train.trainer import Trainer

__all__ = ["Saves"]

logger = logging.getLogger(__name__)

MAX_LOST = 2
"""Lost processes of a rank after which no new one is started: what ended two would end others."""
MIN_BACKGROUND_BYTES = 16 << 20
"""Bytes of state on all ranks from which on a process that saves costs less than it spares."""


class Saves:
    """Methods are collective unless they say otherwise.

    tried_step: of the newest save, which may have failed. failed: saves in a row that the disk did not take.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer, self._config = trainer, trainer.config.checkpoint
        self.tried_step = self.failed = 0
        self._job: SaveJob | None = None
        self._saver: BackgroundSaver | None = None
        self._losses = 0
        self._blocked = 0.0
        self._newest = time.monotonic()
        self._all_finished = self._overdue = self._lost = self._restarts = False

    @property
    def votes(self) -> dict[str, bool]:
        """What `fetch` asks every rank: whether it still saves, and on rank 0 whether a save is due by its clock."""
        saving = self._job is not None and self._saver is not None and not self._saver.finished
        minutes = self._config.save_every_minutes
        overdue = self._trainer.is_main and minutes is not None and time.monotonic() >= self._newest + 60 * minutes
        return {"saving": saving, "overdue": overdue}

    def hear(self, step: StepBatches) -> None:
        """What any rank answered. Not collective."""
        self._all_finished, self._overdue = not step.saving, step.overdue

    def prepare(self) -> None:
        """After the first step: start the process that saves, if there will be saves before the last one.

        A state that is written in no time needs none.
        """
        every, step = self._config.save_iter, self._trainer.step
        more = self._config.save_every_minutes is not None or (step // every + 1) * every < self._trainer.max_iter
        if self._saver is not None or not more or not self._config.async_save or sys.platform != "linux":
            return
        components, mesh = self._trainer.state_dict(), self._trainer.mesh
        size = size_of(components)
        if any_rank(size * mesh.world >= MIN_BACKGROUND_BYTES, mesh):
            self._start_process(components)

    def after_step(self) -> None:
        """Hear of a save that is complete, and save when it is due."""
        if self._all_finished:
            self.settle()
        if self._due():
            self.save_or_go_on()

    def save_or_go_on(self) -> None:
        """Begin to save, in the background where that is possible. Raises SaveFailed after too many that failed."""
        self.tried_step = self._trainer.step
        try:
            if not self._begin():
                self.save()
        except SaveFailed as error:
            self._go_on_after(error)

    def save(self) -> Path:
        """Write a checkpoint of the state after this step and wait for it. Raises UserError, RunFailed."""
        trainer = self._trainer
        self.settle()
        begun = self._enter()
        job = self._new_job()
        path = job.carry_out(trainer.state_dict(), trainer.mesh)
        logger.info("saved %s", path)
        job.remove_old(trainer.mesh)
        trainer.times.add("saving", time.perf_counter() - begun)
        self._complete(trainer.step, path)
        return path

    def settle(self) -> None:
        """Wait for the save in the background, and tell callbacks how it ended. Raises SaveFailed after too many."""
        trainer, job = self._trainer, self._job
        if job is None or self._saver is None:
            return
        begun = time.perf_counter()
        trainer.activity.enter(f"waiting for the checkpoint of step {job.step}")
        reply = self._saver.result()
        self._job = None
        waited = time.perf_counter() - begun
        if not self._all_finished:
            trainer.times.add("saving", waited)
        _log_again(reply.records)
        if any_rank(reply.crash is not None, trainer.mesh):
            self._save_here(job.step, reply.crash or "a process that saves failed on another rank")
            return
        if reply.error is not None:  # Then all ranks have one.
            self._go_on_after(reply.error)
            return
        path = job.paths.iteration(job.step)
        self._blocked += waited
        logger.info("saved %s: training waited %.2f s, %.1f s in the background", path, self._blocked, reply.seconds)
        _log_again(reply.afterwards)
        self._complete(job.step, path)

    def before_change(self) -> None:
        """Called before weights, moments or averages change. Not collective."""
        if self._saver is not None:
            self._saver.before_change()

    def finish(self) -> None:
        """Let the save in the background end when this rank fails, maybe alone. Not collective."""
        if self._job is not None and self._saver is not None:
            self._trainer.activity.enter(f"waiting for the checkpoint of step {self._job.step}")
            reply, job, self._job = self._saver.result(), self._job, None
            if reply.failed:
                logger.warning("the checkpoint of step %d is not complete", job.step)
            else:
                logger.info("saved %s", job.paths.iteration(job.step))

    def close(self) -> None:
        """End the process that saves, with what it does. Not collective."""
        if self._saver is not None:
            self._saver.close()
            self._saver = self._job = None

    def _due(self) -> bool:
        """Every `save_iter` steps; not after a skipped step, so that the last good checkpoint stays the latest."""
        every, trainer = self._config.save_iter, self._trainer
        newest = max(trainer.saved_step, self.tried_step)
        early = self._lost or (self._overdue and trainer.step > newest)
        if trainer.step // every == newest // every and not early:
            return False
        trainer.flush()
        return not trainer.guard.in_doubt

    def _begin(self) -> bool:
        """Begin to save in the background; whether that was possible."""
        trainer = self._trainer
        self.settle()
        if self._saver is None and (self._lost or not self._restarts):
            return False
        begun = self._enter()
        components = trainer.state_dict()
        if any_rank(self._saver is None or not self._saver.fits(components), trainer.mesh):
            self.close()
            self._start_process(components)
        if self._saver is None:
            return False
        self._job = self._new_job()
        buffers = {f"{LIVE}{name}" for name, _ in trainer.model.named_buffers()}
        self._saver.begin(self._job, components, at_once=buffers)
        self._all_finished = False
        self._blocked = time.perf_counter() - begun
        trainer.times.add("saving", self._blocked)
        if trainer.is_main:
            logger.info("saving %s in the background", trainer.paths.iteration(trainer.step).name)
        return True

    def _save_here(self, step: int, reason: str) -> None:
        """After the process that saves was lost: try the save once more without one, with the weights of the next step.

        A new process does the saves after that, unless too many were lost.
        """
        self.close()
        self._losses += 1
        self._lost, self._restarts = True, self._losses < MAX_LOST
        lost = f"the checkpoint of step {step} could not be written: {reason}"
        later = "a new process does the next ones" if self._restarts else "saves block from now on"
        self._tell(f"{lost}; trying once more with the present weights; {later}")

    def _enter(self) -> float:
        """A save begins: when, by the clock of durations. Raises RunFailed when the weights are not finite."""
        trainer = self._trainer
        trainer.activity.enter("saving a checkpoint")
        trainer.flush()
        trainer.guard.check_before_saving(trainer.step)
        self._newest, self._lost = time.monotonic(), False
        return time.perf_counter()

    def _start_process(self, components: dict[str, dict[str, Any]]) -> None:
        """Start the process of this rank, unless the system of any rank lacks memory or refuses it."""
        self._restarts, mesh, launched = False, self._trainer.mesh, launched_rank()
        together = size_of(components) * (launched.local_world if launched is not None else 1)
        if any_rank(together > free_host_memory(), mesh):
            self._tell(f"saving in the background needs {together / 2**30:.1f} GiB of the host's memory; saves block")
            return
        name = gather_objects(uuid4().hex, mesh)[0]
        try:
            self._saver = BackgroundSaver(components, mesh, name)
        except OSError as error:
            self._tell(f"no process can save in the background: {error}; saves block")
        if any_rank(self._saver is None, mesh):
            self.close()

    def _tell(self, text: str) -> None:
        """A warning of rank 0; what the other ranks know is in their logs."""
        logger.log(logging.WARNING if self._trainer.is_main else logging.INFO, "%s", text)

    def _new_job(self) -> SaveJob:
        trainer = self._trainer
        return SaveJob(
            paths=trainer.paths,
            config=self._config,
            step=trainer.step,
            loader={"format": ONE_DATASET_FORMAT, **plain(trainer.loader_state)},
            base=trainer.base,
            launch=trainer.launch,
        )

    def _complete(self, step: int, path: Path) -> None:
        self._trainer.saved_step, self.failed = step, 0
        self._trainer.emit("checkpoint_saved", path)

    def _go_on_after(self, error: SaveFailed) -> None:
        """What the disk does not take is only logged a few times in a row."""
        self.failed += 1
        if self.failed > self._config.max_failed_saves:
            raise error
        if self._trainer.is_main:
            logger.warning("%s; training goes on", error)


def _log_again(records: Sequence[logging.LogRecord]) -> None:
    """What the process that saves logged."""
    for record in records:
        logging.getLogger(record.name).handle(record)
