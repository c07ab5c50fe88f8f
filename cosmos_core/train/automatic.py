"""Resolves ``auto``: the mode of recomputation that fits the cards, and how many loader workers keep up."""

from __future__ import annotations

import logging

import torch
from attrs import evolve

from cosmos_core.config.env import launched_rank
from cosmos_core.config.run import RunConfig
from cosmos_core.data.source import MapSource
from cosmos_core.data.worker_count import workers_for
from cosmos_core.distributed.device_memory import device_memory
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.costs import AUTO, MODES
from cosmos_core.plan.gpus import Machine, gpu_of
from cosmos_core.plan.savings import Case, best_mode, cheapest, on_a_command_line
from cosmos_core.train.costs import case_of, described_mode, workers_needed
from cosmos_core.train.family import ModelFamily

__all__ = ["machine_here", "settled"]

logger = logging.getLogger(__name__)


def machine_here(device: torch.device, world: int) -> Machine | None:
    """The run's cards, which are all as this process's; None on a CPU, whose memory has no fixed limit."""
    memory = device_memory(device)
    if memory is None:
        return None
    name, launched = torch.cuda.get_device_name(device), launched_rank()
    return Machine(name, world, memory, gpu_of(name), launched.local_world if launched is not None else 1)


def settled(
    config: RunConfig,
    family: type[ModelFamily],
    machine: Machine | None,
    data: MapSource | None = None,
) -> RunConfig:
    """With a mode of recomputation and a number of workers in place of 'auto'; what was taken is logged.

    machine: as of `machine_here`. data: what is trained on. Raises UserError where no mode fits: by how much, and what
    would.
    """
    modes, workers = config.model.activation_checkpointing.mode == AUTO, config.dataloader_train.num_workers == AUTO
    if not modes and not workers:
        return config
    case = None
    if machine is not None:
        case = case_of(config, family, machine.count, memory=machine.memory, data=data)
    if modes:
        config, case = _with_mode(config, case, machine)
    return _with_workers(config, case, machine) if workers else config


def _with_mode(config: RunConfig, case: Case | None, machine: Machine | None) -> tuple[RunConfig, Case | None]:
    checkpointing, expected = config.model.activation_checkpointing, ""
    mode, share, parts = MODES[0] if machine is None else MODES[-1], 1.0, 1
    if case is not None and machine is not None:
        fitting = best_mode(case, machine)
        if fitting is None:
            raise _nothing_fits(case, machine.memory)
        case, mode, share, parts = fitting, fitting.mode, fitting.share, fitting.parts
        expected = f" (about {case.peak:.1f} of {machine.memory:.1f} GiB)"
    logger.info("recomputation: %s, by mode = auto%s", described_mode(mode, share, parts), expected)
    checkpointing = evolve(checkpointing, mode=mode, share=share, parts=parts)
    return evolve(config, model=evolve(config.model, activation_checkpointing=checkpointing)), case


def _with_workers(config: RunConfig, case: Case | None, machine: Machine | None) -> RunConfig:
    needed = None if case is None or machine is None else workers_needed(case, machine)
    number, reason = workers_for(AUTO, needed), "this rank's share of the cores"
    if needed is not None:
        reason = f"{needed} keep up" + ("" if number == needed else f"; {reason} allows fewer")
    logger.info("loader workers: %d, by num_workers = auto (%s)", number, reason)
    return evolve(config, dataloader_train=evolve(config.dataloader_train, num_workers=number))


def _nothing_fits(case: Case, memory: float) -> UserError:
    message = (
        f"no mode fits: with full recomputation this takes about {case.peak:.1f} GiB on each GPU, which has "
        f"{memory:.1f}: {case.peak - memory:.1f} too much"
    )
    change = cheapest(case, memory)
    hint = f"this would fit: {on_a_command_line(change)}" if change else "take a smaller model or larger GPUs"
    problem = Problem(message=message, key="model.activation_checkpointing.mode", hint=hint)
    return UserError("the run does not fit; nothing was started", [problem])
