"""Settings that make a run take less memory, the cheapest first, and which of them make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

from attrs import evolve, frozen

from cosmos_core.config.run import RunConfig
from cosmos_core.plan.costs import MODES, Estimate, memory_items, peak
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.plan import Degrees

__all__ = ["MARGIN", "Case", "Saving", "best_mode", "cheapest", "savings"]

MARGIN = 0.95
"""Share of a card that a mode of recomputation may fill to be taken by itself."""
MOST_GPUS = 64
PARTS = 8
"""Of the layers, to choose how many recompute."""


@frozen(kw_only=True, slots=False)
class Case:
    """A configuration whose cost is known.

    mode: of recomputation, never 'auto'. share: of the layers that recompute. looked_at: samples of the data that the
    estimate is of; 0: of a usual sample.
    """

    estimate: Estimate
    config: RunConfig
    degrees: Degrees
    mode: str
    share: float = 1.0
    looked_at: int = 0

    @cached_property
    def items(self) -> dict[str, float]:
        """Bytes on each GPU, by item."""
        return memory_items(self.estimate, self.config, self.degrees, self.mode, self.share)

    @property
    def peak(self) -> float:
        """GiB on each GPU."""
        return peak(self.items)


@frozen
class Saving:
    """setting: to write behind the command. gib: saved on each GPU. case: with it."""

    setting: str
    gib: float
    case: Case


Change = Callable[[Case], tuple[str, Case] | None]


def best_mode(case: Case, memory: float) -> Case | None:
    """With what recomputes least and leaves a margin on a card of so many GiB; None where nothing does."""
    ways = [("none", 1.0), *(("selective", part / PARTS) for part in range(1, PARTS + 1)), ("full", 1.0)]
    tried = (evolve(case, mode=mode, share=share) for mode, share in ways)
    return next((other for other in tried if other.peak <= MARGIN * memory), None)


def savings(case: Case) -> list[Saving]:
    """Every change by itself that saves anything, the one that costs least speed or quality first."""
    changed = [change(case) for change in _CHANGES]
    found = [Saving(setting, case.peak - other.peak, other) for setting, other in filter(None, changed)]
    return [saving for saving in found if saving.gib > 0.05]


def cheapest(case: Case, memory: float) -> list[str] | None:
    """Settings that make it fit on cards of so many GiB: one if one does, else several; None where all do not."""
    alone = next((saving for saving in savings(case) if saving.case.peak <= memory), None)
    if alone is not None:
        return [alone.setting]
    settings: dict[str, str] = {}
    for setting, other in _together(case):
        settings[setting.replace(" ", "=").partition("=")[0]] = setting
        if other.peak <= memory:
            return list(settings.values())
    return None


def _together(case: Case) -> Iterator[tuple[str, Case]]:
    """One change after the other, smaller packs and more GPUs as often as they go."""
    for change in _CHANGES:
        while (changed := change(case)) is not None:
            setting, case = changed
            yield setting, case


def _recompute(case: Case) -> tuple[str, Case] | None:
    if case.share < 1:
        return "model.activation_checkpointing.share=1.0", evolve(case, share=1.0)
    if case.mode == MODES[-1]:
        return None
    mode = MODES[MODES.index(case.mode) + 1]
    return f"model.activation_checkpointing.mode={mode}", evolve(case, mode=mode)


def _cache(case: Case) -> tuple[str, Case] | None:
    if not case.estimate.before:
        return None
    loader = evolve(case.config.dataloader_train, cache="DIR")
    estimate = evolve(case.estimate, before=0.0, other_seconds=0.0)
    return "dataloader_train.cache=DIR", evolve(
        case, estimate=estimate, config=evolve(case.config, dataloader_train=loader)
    )


def _smaller_packs(case: Case) -> tuple[str, Case] | None:
    """Half of the samples, and twice the micro-batches, so that a step trains on as many."""
    if case.estimate.samples < 2:
        return None
    loader = case.config.dataloader_train
    if loader.max_samples_per_batch is not None and case.estimate.samples >= loader.max_samples_per_batch:
        setting = f"dataloader_train.max_samples_per_batch={loader.max_samples_per_batch // 2}"
        loader = evolve(loader, max_samples_per_batch=loader.max_samples_per_batch // 2)
    elif loader.max_sequence_length is not None:
        setting = f"dataloader_train.max_sequence_length={loader.max_sequence_length // 2}"
        loader = evolve(loader, max_sequence_length=loader.max_sequence_length // 2)
    else:
        return None
    trainer = evolve(case.config.trainer, grad_accum_iter=2 * case.config.trainer.grad_accum_iter)
    config = evolve(case.config, dataloader_train=loader, trainer=trainer)
    return setting, evolve(case, config=config, estimate=_halved(case.estimate))


def _halved(estimate: Estimate) -> Estimate:
    return evolve(
        estimate,
        samples=estimate.samples / 2,
        tokens=estimate.tokens / 2,
        kept={mode: {name: value / 2 for name, value in items.items()} for mode, items in estimate.kept.items()},
        working={mode: value / 2 for mode, value in estimate.working.items()},
        flops=estimate.flops / 2,
        recomputed={mode: value / 2 for mode, value in estimate.recomputed.items()},
        other_seconds=estimate.other_seconds / 2,
        core_seconds=estimate.core_seconds / 2,
    )


def _no_average(case: Case) -> tuple[str, Case] | None:
    model = case.config.model
    if not model.ema.enabled:
        return None
    model = evolve(model, ema=evolve(model.ema, enabled=False))
    return "model.ema.enabled=false", evolve(case, config=evolve(case.config, model=model))


def _more_gpus(case: Case) -> tuple[str, Case] | None:
    parallelism, world = case.config.model.parallelism, 2 * case.degrees.world
    if parallelism.data_parallel_shard_degree != -1 or world > MOST_GPUS:
        return None
    return f"--nproc {world}", evolve(case, degrees=solve_degrees(parallelism, world))


_CHANGES: tuple[Change, ...] = (_recompute, _cache, _smaller_packs, _no_average, _more_gpus)
