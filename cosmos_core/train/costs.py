"""What a recipe costs on a machine: memory, time and disk, and the mode of recomputation that fits."""

from __future__ import annotations

import logging

import torch
from attrs import evolve, frozen

from cosmos_core.config.run import RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.costs import GIB, MODES, checkpoint_bytes, checkpoints_kept, staging_bytes, step_seconds
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.gpus import Machine
from cosmos_core.plan.savings import Case, best_mode, cheapest
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.family import ModelFamily

__all__ = ["AUTO", "Costs", "case_of", "costs", "described_mode", "device_memory", "with_mode"]

logger = logging.getLogger(__name__)

AUTO = "auto"


@frozen(kw_only=True)
class Costs:
    """Of a run.

    case: with the mode that trains. automatic: whether the planner took the mode. seconds: of a step, least and most.
    hours: to the end. steps_an_epoch: None where the data is not there. pinned_gib: of the host's memory for each GPU.
    change: settings that make it fit; empty when it does, None when nothing would.
    """

    case: Case
    machine: Machine
    automatic: bool
    seconds: tuple[float, float] | None
    hours: float | None
    steps_an_epoch: int | None
    checkpoint_gib: float
    num_checkpoints: int
    pinned_gib: float
    change: list[str] | None

    @property
    def fits(self) -> bool:
        """Whether the peak is within the card's memory."""
        return self.case.peak <= self.machine.memory


def case_of(config: RunConfig, family: type[ModelFamily], world: int) -> Case | None:
    """A recipe on so many GPUs, with the last mode where it says 'auto'; None where the family tells no costs."""
    estimate = family.estimate(config)
    if estimate is None:
        return None
    checkpointing = config.model.activation_checkpointing
    degrees = solve_degrees(config.model.parallelism, world)
    automatic = checkpointing.mode == AUTO
    return Case(
        estimate=estimate,
        config=config,
        degrees=degrees,
        mode=MODES[-1] if automatic else checkpointing.mode,
        share=1.0 if automatic else checkpointing.share,
    )


def costs(config: RunConfig, plugins: PluginManager, machine: Machine, *, num_samples: int | None = None) -> Costs:
    """Raises UserError where the family tells no costs, or the mesh does not fit. num_samples: of the data."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
    case = case_of(config, family, machine.count)
    if case is None:
        problem = Problem(message=f"the family '{config.job.task}' does not tell what it costs", key="job.task")
        raise UserError("nothing was planned", [problem])
    automatic = config.model.activation_checkpointing.mode == AUTO
    if automatic:
        case = best_mode(case, machine.memory) or case
    seconds = step_seconds(case.estimate, config, case.degrees, case.mode, machine, case.share)
    hours = None if seconds is None else config.trainer.max_iter * sum(seconds) / 2 / 3600
    step = case.estimate.samples * case.degrees.data * config.trainer.grad_accum_iter
    return Costs(
        case=case,
        machine=machine,
        automatic=automatic,
        seconds=seconds,
        hours=hours,
        steps_an_epoch=None if num_samples is None else max(1, round(num_samples / step)),
        checkpoint_gib=checkpoint_bytes(case.estimate, config) / GIB,
        num_checkpoints=checkpoints_kept(config.checkpoint, config.trainer.max_iter, hours),
        pinned_gib=staging_bytes(case.estimate, config, case.degrees) / GIB,
        change=[] if case.peak <= machine.memory else cheapest(case, machine.memory),
    )


def device_memory(device: torch.device) -> float | None:
    """GiB of a GPU; None of a CPU, which has no fixed limit."""
    return torch.cuda.get_device_properties(device).total_memory / GIB if device.type == "cuda" else None


def with_mode(config: RunConfig, family: type[ModelFamily], world: int, memory: float | None) -> RunConfig:
    """With a mode of recomputation in place of 'auto'. memory: GiB of each card; None without a limit, as on a CPU.

    Raises UserError where nothing fits: by how much, and what would.
    """
    checkpointing = config.model.activation_checkpointing
    if checkpointing.mode != AUTO:
        return config
    mode, share, case = MODES[0], 1.0, None
    if memory is not None and (case := case_of(config, family, world)) is not None:
        fitting = best_mode(case, memory)
        if fitting is None:
            raise _nothing_fits(case, memory)
        mode, share, case = fitting.mode, fitting.share, fitting
    elif memory is not None:
        mode = MODES[-1]
    expected = "" if case is None else f" (about {case.peak:.1f} of {memory:.1f} GiB)"
    logger.info("recomputation: %s, by mode = auto%s", described_mode(mode, share), expected)
    return evolve(
        config, model=evolve(config.model, activation_checkpointing=evolve(checkpointing, mode=mode, share=share))
    )


def described_mode(mode: str, share: float) -> str:
    """A mode and in how many of the layers, for people."""
    return mode if share == 1 else f"{mode} in {share:.0%} of the layers"


def _nothing_fits(case: Case, memory: float) -> UserError:
    change = cheapest(case, memory)
    message = (
        f"no mode fits: with full recomputation this takes about {case.peak:.1f} GiB on each GPU, which has "
        f"{memory:.1f}: {case.peak - memory:.1f} too much"
        if case.peak > memory
        else f"no mode leaves a margin: full recomputation takes about {case.peak:.1f} of {memory:.1f} GiB"
    )
    hint = (
        "set the mode to 'full' to try it all the same"
        if case.peak <= memory
        else (f"this would fit: {' '.join(change)}" if change else "take a smaller model, adapters, or larger GPUs")
    )
    problem = Problem(message=message, key="model.activation_checkpointing.mode", hint=hint)
    return UserError("the run does not fit; nothing was started", [problem])
