"""Runs a plan on this rank: process group, trainer, training, and everything taken down again."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist
from attrs import evolve, frozen

from cosmos_core.console.logs import log_file
from cosmos_core.data.mixture import members_of
from cosmos_core.data.source import MapSource
from cosmos_core.data.workers import lost_workers_explained
from cosmos_core.distributed.compile import start_compilers
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, barrier, gather_objects
from cosmos_core.distributed.runtime import process_group
from cosmos_core.errors import Problem, RunFailed, UserError
from cosmos_core.launch.error_files import error_recorded
from cosmos_core.launch.stop import StopRequests
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import add_to_record
from cosmos_core.plan.warnings import warnings
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.activity import Activity
from cosmos_core.train.agreement import CollectiveError, broadcast_config
from cosmos_core.train.automatic import machine_here, settled
from cosmos_core.train.build import build_trainer, needs_mixed_precision, open_data
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.determinism import deterministic_kernels, missing_kernel_explained
from cosmos_core.train.out_of_memory import out_of_memory_explained
from cosmos_core.train.startup import StartUp
from cosmos_core.train.trainer import Trainer

__all__ = ["Result", "run"]

FOREVER = timedelta(days=7)
YEAR = 365 * 24 * 3600.0
"""Seconds; far beyond, they are too many for a timer."""

logger = logging.getLogger(__name__)


@frozen
class Result:
    """outcome: 'done', 'stopped' or, when the keyboard asked, 'interrupted'; a checkpoint of the end exists then.

    step: completed optimizer steps. seconds: wall clock of the loop.
    """

    outcome: str
    step: int
    seconds: float


def run(plan: RunPlan, plugins: PluginManager, *, startup: StartUp, stop: StopRequests, activity: Activity) -> Result:
    """Execute a plan; called on every rank. Raises UserError for what the user can fix, RunFailed.

    Rank 0 logs what the plan warns of. startup: clock of the phases before the first step. stop: requests to stop.
    """
    if dist.is_initialized():
        hint = "call torch.distributed.destroy_process_group() first, or train in another process"
        raise UserError("nothing was started", [Problem(message="this process has a process group already", hint=hint)])
    mixed = needs_mixed_precision(plan.config.model)
    activity.enter("joining the other ranks")
    group = process_group(plan.degrees, mixed_precision=mixed, timeout=_timeout(plan))
    with deterministic_kernels(plan.config.trainer.deterministic), group as mesh, error_recorded():
        startup.mark("devices")
        plan = broadcast_config(plan, mesh)
        stop.file = RunPaths(plan.run_dir).stop_request
        activity.folder = RunPaths(plan.run_dir).beats
        with log_file(RunPaths(plan.run_dir).log(mesh.rank)):
            stop.announce = logger.warning if mesh.rank == 0 else logger.info
            return _run(plan, plugins, mesh, startup, stop, activity)


def _run(
    plan: RunPlan, plugins: PluginManager, mesh: Mesh, startup: StartUp, stop: StopRequests, activity: Activity
) -> Result:
    logger.debug("launch %s: rank %d of %d, process %d", plan.launch, mesh.rank, mesh.degrees.world, os.getpid())
    if mesh.rank == 0:
        for change in plan.changes:
            logger.warning("changed since %s: %s", plan.weights.label, change)
        for warning in warnings(plan.config, plan.weights):
            logger.warning("%s", warning)
    if any_rank(stop.pending, mesh):
        return _stopped_early(stop, mesh)
    activity.enter("opening the data and building the network")
    data = open_data(plan.config, plugins, mesh)
    startup.mark("data")
    start_compilers(plan.config.model.compile, mesh.device)
    family = plugins.registry.get(ModelFamilySpec, plan.config.job.task).family.load()
    config = settled(plan.config, family, machine_here(mesh.device, plan.degrees.world), data[0])
    # Ranks may see different data for a moment; what they recompute must be the same.
    checkpointing = gather_objects(config.model.activation_checkpointing, mesh)[0]
    plan = evolve(plan, config=evolve(config, model=evolve(config.model, activation_checkpointing=checkpointing)))
    startup.mark("plan")
    with (
        out_of_memory_explained(plan, plugins, mesh.device, data[0]),
        missing_kernel_explained(),
        lost_workers_explained(),
    ):
        return _built_and_trained(plan, plugins, mesh, startup, stop, activity, data)


def _stopped_early(stop: StopRequests, mesh: Mesh) -> Result:
    if mesh.rank == 0:
        logger.info("stopped before this launch took a step: there is nothing to save")
    return Result(stop.outcome, 0, 0.0)


def _built_and_trained(
    plan: RunPlan,
    plugins: PluginManager,
    mesh: Mesh,
    startup: StartUp,
    stop: StopRequests,
    activity: Activity,
    data: Sequence[MapSource],
) -> Result:
    trainer = build_trainer(plan, plugins, mesh, startup, stop, activity, data=data)
    if any_rank(stop.pending, mesh):
        return _stopped_early(stop, mesh)
    activity.enter("loading weights")
    load_training_state(trainer, plan.weights)
    startup.mark("weights")
    _check_steps_left(trainer, plan)
    if trainer.is_main:
        add_to_record(trainer.paths, plan.launch, "fetched", _sources(trainer))
        add_to_record(trainer.paths, plan.launch, "changed_data", trainer.loader.changes)
        add_to_record(trainer.paths, plan.launch, "left_out", _left_out(trainer))
        trainer.loader.announce()
        trainer.trackers.start(plan, trainer.step)
    begun = time.perf_counter()
    try:
        outcome = _train(trainer)
    except (CollectiveError, RunFailed):
        # Raised on all ranks. torchrun ends them all when the first one exits, and rank 0 may still have metrics
        # to send to a tracker's server.
        barrier(mesh)
        raise
    barrier(mesh)  # A rank that leaves early ends the others under torchrun.
    return Result(outcome, trainer.step, time.perf_counter() - begun)


def _timeout(plan: RunPlan) -> timedelta:
    """Of collectives: later than the watch, which knows more."""
    limits = plan.config.trainer.timeout
    longest = min(max(limits.startup, limits.step), YEAR)
    return timedelta(seconds=longest + 60) if limits.startup and limits.step else FOREVER


def _train(trainer: Trainer) -> str:
    outcome = "failed"
    try:
        outcome = trainer.train()
        if outcome == "stopped":
            outcome = trainer.stop.outcome
    except KeyboardInterrupt:
        outcome = "interrupted"
        raise
    finally:
        trainer.trackers.finish(outcome)
        if trainer.is_main:
            add_to_record(trainer.paths, trainer.launch, "left_out", _left_out(trainer))
    return outcome


def _check_steps_left(trainer: Trainer, plan: RunPlan) -> None:
    """A checkpoint whose folder's name does not tell its step may have all of the run's. Raises UserError."""
    if trainer.step >= trainer.max_iter:
        message = f"is {trainer.max_iter}, but {plan.weights.path} has {trainer.step} steps already"
        problem = Problem(message=message, key="trainer.max_iter", hint="raise it")
        raise UserError("no step is left to train; nothing was started", [problem])


def _sources(trainer: Trainer) -> dict[str, str]:
    """What the family fetched, and which data the run sees."""
    members = members_of(trainer.loader.source)
    prints = {f"dataloader_train.{member.key}": member.source.fingerprint for member in members}
    return {**trainer.family.source_revisions, **{key: text for key, text in prints.items() if text is not None}}


def _left_out(trainer: Trainer) -> dict[str, dict[str, int]]:
    """Samples by reason: what the datasets leave out by their rules, and what this rank could not use so far."""
    counts: dict[str, dict[str, int]] = {}
    for name, loader in (("training data", trainer.loader), ("validation data", trainer.validation)):
        if loader is not None and (loader.source.filtered or loader.skipped):
            unreadable = {f"{reason} (while reading)": count for reason, count in dict(loader.skipped).items()}
            counts[name] = {**loader.source.filtered, **unreadable}
    return counts
