"""One process of a run: its parts, the loop, one training step, and its state in a checkpoint.

The file follows the order of a run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from cosmos_core.checkpoint.retention import check_best
from cosmos_core.checkpoint.state import (
    model_state,
    optimizer_state,
    random_state,
    restore_optimizer,
    restore_random_state,
)
from cosmos_core.config.run import RunConfig
from cosmos_core.data.loader import MicroBatch, PackedLoader
from cosmos_core.distributed.compile import compiling_seconds
from cosmos_core.distributed.fsdp import set_requires_all_reduce
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.launch.stop import StopRequests
from cosmos_core.optim.adamw import adamw_step
from cosmos_core.optim.ema import Ema
from cosmos_core.optim.lora import adapters_changed, trains_only_lora
from cosmos_core.optim.norm import gradient_norm
from cosmos_core.optim.schedule import build_scheduler
from cosmos_core.optim.select import learning_rates, rate_names
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plan.record import add_to_record, publish_record
from cosmos_core.plan.schedule import factor
from cosmos_core.train import checkpointing
from cosmos_core.train.activity import Activity
from cosmos_core.train.agreement import CollectiveError
from cosmos_core.train.ahead import micro_batches_of
from cosmos_core.train.callback import Callback
from cosmos_core.train.family import ModelFamily, StepOutput
from cosmos_core.train.fetch import fetch
from cosmos_core.train.metrics import AsyncMetrics, StepMetrics
from cosmos_core.train.nonfinite import NonFiniteGuard, NotFinite
from cosmos_core.train.rollback import Rollbacks
from cosmos_core.train.saves import Saves
from cosmos_core.train.scores import Scoring
from cosmos_core.train.spikes import Spikes
from cosmos_core.train.startup import StartUp
from cosmos_core.train.step_metrics import StepReport
from cosmos_core.train.timing import PhaseTimes, Utilisation
from cosmos_core.train.tracker import Media, TrackerGroup
from cosmos_core.train.validate import Evaluation, evaluate

__all__ = ["Trainer"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class Trainer:
    """The parts of a run; callbacks get this object.

    source: what the process started from. step: completed optimizer steps. loader_state: what to save after them.
    grad_norm: of the current step, before any callback changed a gradient. record: metrics of the newest step that is
    on the host; on an accelerator that is the previous step. base: of the frozen weights, which checkpoints may leave
    to it. launch: number of this launch. startup: clock of the phases up to the first step. activity: what this rank is
    doing. saved_step: of the newest complete checkpoint. samples: of the newest step on this rank, key and
    dataset of each, by micro-batch. times: of the phases of the step to come, saves before it included.
    """

    config: RunConfig
    mesh: Mesh
    rng: CounterRng
    family: ModelFamily
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR
    ema: Ema | None
    loader: PackedLoader
    validation: PackedLoader | None
    callbacks: dict[str, Callback]
    trackers: TrackerGroup
    paths: RunPaths
    stop: StopRequests

    source: WeightSource = field(default_factory=lambda: WeightSource(kind="scratch"))
    step: int = 0
    loader_state: dict[str, Any] = field(default_factory=dict)
    grad_norm: torch.Tensor | None = None
    record: dict[str, Any] = field(default_factory=dict)
    base: FrozenBase | None = None
    launch: int | None = None
    startup: StartUp = field(default_factory=StartUp)
    activity: Activity = field(default_factory=Activity)
    saved_step: int = 0
    samples: list[list[tuple[str, str]]] = field(default_factory=list)
    stop_requested: bool = False
    scoring: Scoring = field(default_factory=Scoring)
    metrics: AsyncMetrics = field(default_factory=AsyncMetrics)
    times: PhaseTimes = field(init=False)
    guard: NonFiniteGuard = field(init=False)
    saves: Saves = field(init=False)
    rollbacks: Rollbacks = field(init=False)
    spikes: Spikes = field(init=False)
    step_report: StepReport = field(init=False)

    def __post_init__(self) -> None:
        self.guard = NonFiniteGuard(self.config.trainer, self.model, self.mesh)
        self.saves = Saves(self)
        self.rollbacks = Rollbacks(self.config.trainer)
        self.spikes = Spikes(self.config.trainer.spike_factor, self.mesh.rank)
        self.times, self.utilisation = PhaseTimes(self.mesh.device), Utilisation(self.mesh.device, self.mesh.world)
        self.step_report = StepReport(self.config, self.mesh)
        self._rate_names = rate_names(self.model, self.config.optimizer)
        self._stopping, self._waited, self._best_told = False, 0.0, False
        self._compiled = compiling_seconds(self.config.model.compile)  # For the plan.

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes shared files."""
        return self.mesh.rank == 0

    @property
    def max_iter(self) -> int:
        """Optimizer steps in total."""
        return self.config.trainer.max_iter

    def train(self) -> str:
        """Run to `max_iter` ('done') or to the first request to stop ('stopped'); then the last step is saved.

        The record of a failed run's last step is still logged. When all ranks fail together, a checkpoint is
        saved first.
        """
        try:
            outcome = self._loop()
        except BaseException as error:
            try:
                self._save_what_is_left(error)
            finally:
                self.emit("failed", error)
            raise
        finally:
            self.saves.close()
        self.emit("train_end")
        self.loader.report("at the end")
        if outcome == "done":
            self._check_adapters_changed()
        return outcome

    def _save_what_is_left(self, error: BaseException) -> None:
        if isinstance(error, CollectiveError):
            self.saves.settle()
            if self.step > self.saved_step:
                self.save()
                return
        if not isinstance(error, KeyboardInterrupt):
            self.saves.finish()
        if self.metrics.ready:
            self._log_newest()  # Not judged: this rank may fail alone, and judging asks the others.

    def _loop(self) -> str:
        trainer = self.config.trainer
        self.activity.enter("callbacks at the start")
        self.emit("train_start")
        if trainer.run_validation and trainer.run_validation_on_start and self.step == self.rollbacks.count == 0:
            self.validate()
        micro_batches, first = micro_batches_of(self), True
        self.rollbacks.begin(self)
        self.startup.mark("callbacks")
        if any_rank(self._asked_to_stop, self.mesh):
            return "stopped"
        while self.step < self.max_iter:
            try:
                stopping = self._advance(micro_batches, first=first)
            except NotFinite as failure:
                micro_batches.close()
                self.rollbacks.go_back(self, failure)
                self.saves.save_or_go_on()  # With the new place in the data, so that a resumed run leaves out the same.
                micro_batches = micro_batches_of(self)
            else:
                first = False
                if stopping and self.step < self.max_iter:
                    return "stopped"
        return "done"

    def _advance(self, micro_batches: Iterator[MicroBatch], *, first: bool) -> bool:
        """One step, and what is due after it; whether the run was asked to stop. first: of this process."""
        trainer = self.config.trainer
        self.emit("step_start")
        self.train_step(micro_batches, first=first)
        if first:
            self.flush()  # One wait for the device, so that the first row does not wait for the second step.
        self.activity.enter("callbacks after the step")
        self.emit("step_end")
        if self.is_main:
            self._report(first=first)
        if first:
            self.saves.prepare()
        last = self.step == self.max_iter
        stopping = self._stopping if self.mesh.distributed else self._asked_to_stop
        if trainer.run_validation and (self.step % trainer.validation_iter == 0 or last):
            self.validate()
        if last:
            self.flush()
            self.guard.check_at_end(self.step)
        if last or stopping:
            self.save()
        else:
            self.saves.after_step()
        return stopping

    def _report(self, *, first: bool) -> None:
        """After a step, on rank 0: publish the launch's record after the first, log the schedule's factor if asked."""
        if first:
            self.startup.split("compiling", compiling_seconds(self.config.model.compile) - self._compiled)
            self.startup.mark("first step")
            add_to_record(self.paths, self.launch, "startup_seconds", self.startup.seconds)
            publish_record(self.paths, self.launch)
        interval = self.config.scheduler.verbosity_interval
        if interval and self.step % interval == 0:
            logger.info("step %d: learning-rate factor %g", self.step, factor(self.config.scheduler, self.step))

    def train_step(self, micro_batches: Iterator[MicroBatch], *, first: bool = False) -> None:
        """One optimizer step. Everything numeric of a step is in this function, in order.

        The host never waits for the device: metrics are read during the next step's gradients, and the device decides
        whether to update. first: of this process, which compiles. Raises CollectiveError when one rank cannot use its
        data, NotFinite when the previous step was not finite and the run must end or go back.
        """
        started = time.perf_counter()
        self.activity.enter("loading data", step=self.step + 1, long=first)

        # Micro-batches and their loss denominator, alike on context-parallel peers. Stops and saves are agreed on here.
        count, asked = self.config.trainer.grad_accum_iter, {"stopping": self._asked_to_stop, **self.saves.votes}
        step = fetch(micro_batches, count, self.family, self.mesh, waited=self._waited, **asked)
        self._stopping, self._waited, data_wait = step.stopping, step.waited, time.perf_counter() - started
        self.saves.hear(step)

        # Forward and backward. Each loss is divided by the whole step's denominator on all ranks, so the result does
        # not depend on how samples are packed. FSDP averages gradients over data ranks; data_world undoes that.
        self.activity.enter("forward and backward", long=first)
        self.model.train()
        outputs: list[StepOutput] = []
        times, self.times = self.times, PhaseTimes(self.mesh.device)
        self.family.times = times
        for number, part in enumerate(step.parts):
            set_requires_all_reduce(self.model, number == len(step.parts) - 1)
            with times.phase("forward_backward"):
                output = self.family.training_step(self.model, part.batch, self.rng)
                (output.loss * (part.weight * self.mesh.data_world / step.loss_denominator)).backward()
            outputs += [output] if part.weight else []
            self.emit("after_backward")
            self.activity.alive()

        # Finite check on the unclipped loss and norm, the same on every rank.
        metrics = self.step_report.means(outputs, step)
        self.grad_norm = gradient_norm(self.model)
        finite = torch.isfinite(metrics["loss"]) & torch.isfinite(self.grad_norm)

        # The callback grad_clip clips. The previous step is logged and checked here, while the device works.
        self.activity.enter("update", long=first)
        self.saves.before_change()
        self.emit("before_optimizer_step")
        self.flush()

        # Optimizer, schedule, average. When the step is not finite, only the schedule advances.
        rates = learning_rates(self.optimizer, self._rate_names)
        self.step += 1
        with times.phase("optimizer"):
            adamw_step(self.optimizer, finite)
            self.scheduler.step()
            if self.ema is not None:
                self.ema.update(self.step, finite)
        self.loader_state, self.samples = step.loader_state, step.samples
        self.rollbacks.note(self)

        # Start copying metrics to the host; on the CPU they are there already.
        facts = self.step_report.facts(self.step, step, time.perf_counter() - started)
        record, values = {**facts, **rates, "data_wait": data_wait}, {**metrics, "grad_norm": self.grad_norm}
        self.metrics.push(record, values, [output.loss for output in outputs], step.keys, times)
        if self.mesh.device.type == "cpu":
            self.flush()

    def flush(self) -> None:
        """Log the newest step and check it. Collective. Raises NotFinite when the run must end or go back."""
        newest = self._log_newest()
        if newest is not None:
            self.guard.judge(newest.record, newest.losses)

    def _log_newest(self) -> StepMetrics | None:
        """Log the newest step, if it is not logged yet. Not collective."""
        newest = self.metrics.flush()
        if newest is not None:
            self.record = self.spikes.marked({**newest.record, **self.utilisation.of(newest.record)}, newest.losses)
            self.trackers.log(self.record)
        return newest

    def validate(self) -> None:
        """Log one pass over the validation data, with the averaged weights when they are kept. Collective."""
        self.flush()
        assert self.validation is not None
        self.activity.enter("validation")
        task = Evaluation(
            family=self.family,
            model=self.model,
            loader=self.validation,
            mesh=self.mesh,
            seed=self.rng.seed,
            weights=self.averaged_weights,
            folder=self.paths.validation(self.step),
            limit=self.config.trainer.max_val_iter,
            scoring=self.scoring,
            num_answers=None if self.scoring.own else self.family.num_sample_answers,
            num_pictured=self.family.num_sample_answers,
            alive=self.activity.alive,
        )
        evaluated = evaluate(task)
        if self.is_main and not self._best_told:
            self._best_told = check_best(self.config.checkpoint, evaluated.metrics)
        self.trackers.log({"step": self.step, **evaluated.metrics})
        self.trackers.log_answers(self.step, evaluated.answers[: self.family.num_sample_answers])
        pictures = sorted(task.folder.glob("*.png")) if self.is_main else []
        self.trackers.log_media(self.step, [Media(f"val/{path.stem}", path) for path in pictures])

    def averaged_weights(self) -> AbstractContextManager[None]:
        """While inside, the averaged weights replace the live ones, if there is an average."""
        self.saves.before_change()
        return self.ema.swapped_in() if self.ema is not None else nullcontext()

    def save(self) -> Path:
        """Write a checkpoint of the state after `step` steps. Collective. Raises UserError, RunFailed."""
        return self.saves.save()

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The components of a checkpoint; tensors by reference. `loader_state` is a file of each rank."""
        return {
            "model": dict(model_state(self.model, self.ema, self.base.lacking if self.base is not None else ())),
            "optim": optimizer_state(self.model, self.optimizer),
            "scheduler": self.scheduler.state_dict(),
            "trainer": {
                "format": checkpointing.TRAINER_FORMAT,
                "iteration": self.step,
                "rollbacks": self.rollbacks.count,
                "spikes": self.spikes.state(),
                "callbacks": {name: callback.state_dict() for name, callback in self.callbacks.items()},
                f"rng_state_{self.mesh.rank}": random_state(),
            },
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]], loader_states: Sequence[dict[str, Any]]) -> None:
        """Continue from `state_dict`, as read back. loader_states: of every old rank; none: the data starts over.

        The model is already loaded (`weights.load_checkpoint`). Learning rates follow the current configuration.
        Random state and callbacks that the checkpoint lacks do not change. Raises UserError when the data differ.
        """
        restore_optimizer(self.model, self.optimizer, state["optim"])
        self.scheduler = build_scheduler(self.optimizer, self.config.scheduler, state["scheduler"]["last_epoch"])
        self.step = self.saved_step = int(state["trainer"]["iteration"])
        self.rollbacks.count = state["trainer"].get("rollbacks", 0)
        self.spikes.load_state(state["trainer"].get("spikes", []))
        if (own := f"rng_state_{self.mesh.rank}") in state["trainer"]:
            restore_random_state(state["trainer"][own])
        for name, values in state["trainer"].get("callbacks", {}).items():
            self.callbacks[name].load_state_dict(values)
        if loader_states:
            self.loader.load_state(loader_states)
        self.loader_state = self.loader.state()

    def emit(self, event: str, *arguments: Any) -> None:
        """Call one event on every callback, in order."""
        for callback in self.callbacks.values():
            getattr(callback, event)(self, *arguments)

    @property
    def _asked_to_stop(self) -> bool:
        """Whether this rank was asked, by a signal, the file or a callback."""
        return self.stop.pending or self.stop_requested

    def _check_adapters_changed(self) -> None:
        """Raises CollectiveError when the whole run left every adapter at zero."""
        if trains_only_lora(self.model) and not any_rank(adapters_changed(self.model), self.mesh):
            raise CollectiveError(
                f"{self.step} steps changed no adapter, so the model still gives the base's output; "
                "check optimizer.lr, the warm-up and the number of steps"
            )
