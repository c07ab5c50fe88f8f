"""What a recipe costs on a machine: memory, time and disk."""

from __future__ import annotations

from functools import cache, partial

from attrs import evolve, frozen

from cosmos_core.config.run import RunConfig, TypicalSample
from cosmos_core.data.lengths import Lengths, lengths_of
from cosmos_core.data.source import MapSource
from cosmos_core.data.worker_count import workers_that_keep_up
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.costs import (
    AUTO,
    GIB,
    MODES,
    Estimate,
    checkpoint_bytes,
    checkpoints_kept,
    staging_bytes,
)
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.gpus import Machine
from cosmos_core.plan.savings import Case, best_mode, cheapest
from cosmos_core.plugin.descriptors import ModelFamilySpec
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.family import ModelFamily

__all__ = ["Costs", "case_of", "costs", "described_mode", "workers_needed"]


@frozen(kw_only=True)
class Costs:
    """Of a run.

    case: with the mode that trains. automatic: whether the planner took the mode. seconds: of a step, least and most.
    hours: to the end. steps_an_epoch: None where the data is not there. workers: of a rank, that keep up; None where
    the seconds are not known. change: settings that make it fit; empty when it does, None when nothing would.
    change_here: the same without more GPUs. pinned_gib: of the host's memory for each GPU.
    """

    case: Case
    machine: Machine
    automatic: bool
    seconds: tuple[float, float] | None
    hours: float | None
    steps_an_epoch: int | None
    workers: int | None
    checkpoint_gib: float
    num_checkpoints: int
    pinned_gib: float
    change: list[str] | None
    change_here: list[str] | None

    @property
    def fits(self) -> bool:
        """Whether the peak is within the card's memory."""
        return self.case.peak <= self.machine.memory


def case_of(
    config: RunConfig,
    family: type[ModelFamily],
    world: int,
    *,
    memory: float | None = None,
    data: MapSource | None = None,
) -> Case | None:
    """A recipe on so many GPUs, with the last mode where it says 'auto'; None where the family tells no costs.

    memory: GiB of each. data: what it trains on, whose metadata is read; absent: samples are as the options say.
    """
    lengths = None if data is None else lengths_of(data)
    estimated = partial(_estimate, family, lengths, memory)
    if (estimate := estimated(config)) is None:
        return None
    checkpointing = config.model.activation_checkpointing
    automatic = checkpointing.mode == AUTO
    return Case(
        estimate=estimate,
        estimated=estimated,
        config=config,
        degrees=solve_degrees(config.model.parallelism, world),
        mode=MODES[-1] if automatic else checkpointing.mode,
        share=1.0 if automatic else checkpointing.share,
        parts=1 if automatic else checkpointing.parts,
        samples_read=0 if lengths is None else len(lengths.samples),
    )


def _estimate(
    family: type[ModelFamily], lengths: Lengths | None, memory: float | None, config: RunConfig
) -> Estimate | None:
    if lengths is None:
        return family.estimate(config, None, memory)
    # Times are those of usual packs. Memory must do for the largest of the run: layers are traced for that one alone.
    model = config.model
    untraced = evolve(config, model=evolve(model, compile=evolve(model.compile, enabled=False)))

    @cache
    def of(sample: TypicalSample, traced: bool = False) -> Estimate | None:
        return family.estimate(config if traced else untraced, sample, memory)

    usual = of(lengths.usual)
    if usual is None:
        return None

    def kept(sample: TypicalSample) -> float:
        found = of(sample)
        return 0.0 if found is None else sum(found.kept["none"].values())

    long, short = lengths.in_the_largest_packs(usual.samples)
    sample = long if long == short else max(long, short, key=kept)
    largest = of(sample, traced=True) if model.compile.enabled else of(sample)
    if largest is None:
        return None
    return evolve(
        largest,
        sample=usual.sample,
        samples=usual.samples,
        tokens=usual.tokens,
        flops=usual.flops,
        recomputed=usual.recomputed,
        other_seconds=usual.other_seconds,
        core_seconds=usual.core_seconds,
        notes=usual.notes,
    )


def costs(config: RunConfig, plugins: PluginManager, machine: Machine, *, data: MapSource | None = None) -> Costs:
    """Raises UserError where the family tells no costs, or the mesh does not fit. data: as of `case_of`."""
    family = plugins.registry.get(ModelFamilySpec, config.job.task).family.load()
    case = case_of(config, family, machine.count, memory=machine.memory, data=data)
    if case is None:
        problem = Problem(message=f"the family '{config.job.task}' does not tell what it costs", key="job.task")
        raise UserError("nothing was planned", [problem])
    automatic = config.model.activation_checkpointing.mode == AUTO
    if automatic:
        case = best_mode(case, machine) or case
    seconds = case.seconds(machine)
    hours = None if seconds is None else config.trainer.max_iter * sum(seconds) / 2 / 3600
    fits = case.peak <= machine.memory
    step = case.estimate.samples * case.degrees.data * config.trainer.grad_accum_iter
    return Costs(
        case=case,
        machine=machine,
        automatic=automatic,
        seconds=seconds,
        hours=hours,
        steps_an_epoch=None if data is None else max(1, round(len(data) / step)),
        workers=workers_needed(case, machine),
        checkpoint_gib=checkpoint_bytes(case.estimate, config) / GIB,
        num_checkpoints=checkpoints_kept(config.checkpoint, config.trainer.max_iter, hours),
        pinned_gib=staging_bytes(case.estimate, config, case.degrees) / GIB,
        change=[] if fits else cheapest(case, machine.memory),
        change_here=[] if fits else cheapest(case, machine.memory, more_gpus=False),
    )


def workers_needed(case: Case, machine: Machine) -> int | None:
    """Loader workers of a rank that keep up with its fastest steps; None where the seconds of a step are not known."""
    seconds = case.seconds(machine)
    if seconds is None:
        return None
    return workers_that_keep_up(case.estimate.core_seconds, seconds[0] / case.config.trainer.grad_accum_iter)


def described_mode(mode: str, share: float, parts: int) -> str:
    """A mode, in how many of the layers, and in how many parts of a pack, for people."""
    text = mode if share == 1 else f"{mode} in {share:.0%} of the layers"
    return text if parts == 1 else f"{text} for each of {parts} parts of a pack"
