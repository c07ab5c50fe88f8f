"""Settings that make a run take less memory, the cheapest first, and which of them make it fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from shlex import quote
from typing import Any

from attrs import evolve, frozen

from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.config.reference import value_text
from cosmos_core.config.run import RunConfig
from cosmos_core.plan.costs import MODES, Estimate, memory_items, peak, step_seconds
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.gpus import Machine
from cosmos_core.plan.plan import Degrees

__all__ = ["Case", "Saving", "best_mode", "cheapest", "on_a_command_line", "savings"]

MARGIN, PART_MARGIN = 0.95, 0.93
"""Share of a card that the plan may fill under 'auto': with no or full recomputation, and with anything in
between, which always comes close to it.
"""
MAX_GPUS = 64
SHARES = 100
"""Of the layers, to choose how many recompute."""
MAX_PARTS, MIN_TOKENS = 8, 4096
"""Of a pack, to choose from; tokens of a part, so that products fill a GPU."""
MIN_SAVING = 0.05
"""GiB that a setting must save."""


@frozen(kw_only=True, slots=False)
class Case:
    """A configuration whose cost is known.

    estimated: what another configuration of the same run costs. mode: of recomputation, never 'auto'. share: of the
    layers that recompute. parts: in which a pack is computed. samples_read: of the data, for the estimate; 0: it is of
    a typical sample.
    """

    estimate: Estimate
    estimated: Callable[[RunConfig], Estimate | None]
    config: RunConfig
    degrees: Degrees
    mode: str
    share: float = 1.0
    parts: int = 1
    samples_read: int = 0

    @cached_property
    def items(self) -> dict[str, float]:
        """Bytes on each GPU, by item."""
        return memory_items(self.estimate, self.config, self.degrees, self.mode, self.share, self.parts)

    @property
    def peak(self) -> float:
        """GiB on each GPU."""
        return peak(self.items)

    @cached_property
    def adapted(self) -> Changed | None:
        """With adapters; None where there are none to take."""
        model = self.config.model
        if not isinstance(model, AdaptedModelConfig) or model.lora_enabled:
            return None
        values = {
            "model.lora_enabled": True,
            "model.lora_target_modules": model.usual_lora_targets,
            "model.ema.enabled": False,
            "optimizer.keys_to_select": ("lora_",),
        }
        differing = {key: value for key, value in values.items() if _get(self.config, key.split(".")) != value}
        settings = tuple(f"{key}={value_text(value)}" for key, value in differing.items())
        config = _with(self.config, differing)
        estimate = self.estimated(config)
        return None if estimate is None else (settings, evolve(self, config=config, estimate=estimate))

    def seconds(self, machine: Machine) -> tuple[float, float] | None:
        """Of a step, as of `step_seconds`."""
        estimate, config = self.estimate, self.config
        return step_seconds(estimate, config, self.degrees, self.mode, machine, self.share, self.parts)


@frozen
class Saving:
    """settings: to write behind the command. gib: saved on each GPU. case: with them."""

    settings: tuple[str, ...]
    gib: float
    case: Case


Changed = tuple[tuple[str, ...], Case]
Change = Callable[[Case], Changed | None]


def best_mode(case: Case, machine: Machine) -> Case | None:
    """The fastest that leaves a margin on its cards: mode, share of the layers and parts of a pack.

    Where none does, the smallest; None where that does not fit either. What recomputes less in more parts is faster as
    long as weights are exchanged beside the computation.
    """
    samples = max(1, min(MAX_PARTS, int(case.estimate.samples)))
    # Where one part is as many as may be fast, more are better than nothing that fits.
    for most in (_most_parts(case, machine), samples):
        cases = sorted(_cases(case, most), key=lambda case: _time(case, machine))
        for each in cases:
            if each.peak <= _margin(each) * machine.memory:
                return each
    smallest = min(_cases(case, samples), key=lambda case: case.peak)
    return smallest if smallest.peak <= machine.memory else None


def _cases(case: Case, most: int) -> Iterator[Case]:
    """Every mode, share of the layers and number of parts, up to the most."""
    shares = [share / SHARES for share in range(1, SHARES + 1)]
    modes = [("none", 1.0), *((mode, share) for mode in ("selective", "full") for share in shares)]
    for parts in range(1, most + 1):
        for mode, share in modes:
            yield evolve(case, mode=mode, share=share, parts=parts)


def _most_parts(case: Case, machine: Machine) -> int:
    """As keep two samples in each; one where the time for the exchange of weights is not known."""
    sharing = case.degrees.shard * case.degrees.context
    known = machine.gpu is not None and math.isfinite(machine.gpu.link[-1]) and sharing <= machine.on_a_host
    if sharing > 1 and not known:
        return 1
    estimate = case.estimate
    return max(1, min(MAX_PARTS, int(estimate.samples / 2), int(estimate.tokens / case.degrees.context / MIN_TOKENS)))


def _time(case: Case, machine: Machine) -> tuple[float, int]:
    """To compare by: of a step, or FLOPs where that is not known; then the fewest parts."""
    seconds = case.seconds(machine)
    time = case.estimate.recomputed_flops(case.mode, case.share) if seconds is None else sum(seconds)
    return round(time, 6), case.parts  # Parts of equal times differ by rounding.


def _margin(case: Case) -> float:
    return MARGIN if (case.mode, case.share) in (("none", 1.0), ("full", 1.0)) else PART_MARGIN


def savings(case: Case) -> list[Saving]:
    """Every change by itself that saves anything, the one that costs least speed or quality first."""
    return _savings(case, (*_CHANGES, _more_gpus, lambda case: case.adapted))


def cheapest(case: Case, memory: float, *, more_gpus: bool = True) -> list[str] | None:
    """Settings that make it fit on cards of so many GiB; None where all do not.

    One setting if one does, else several. Adapters come last, since they train something else. more_gpus: whether these
    are a setting.
    """
    changes = (*_CHANGES, _more_gpus) if more_gpus else _CHANGES
    fitting = _fitting(case, memory, changes)
    if fitting is not None:
        return fitting
    if case.adapted is None:
        return None
    settings, with_adapters = case.adapted
    rest = [] if with_adapters.peak <= memory else _fitting(with_adapters, memory, changes)
    return None if rest is None else [*settings, *rest]


def on_a_command_line(settings: Iterable[str]) -> str:
    """Settings as a shell takes them."""
    return " ".join(text if text.startswith("--") else quote(text) for text in settings)


def _savings(case: Case, changes: Iterable[Change]) -> list[Saving]:
    changed = filter(None, (change(case) for change in changes))
    each = [Saving(settings, case.peak - smaller.peak, smaller) for settings, smaller in changed]
    return [saving for saving in each if saving.gib > MIN_SAVING]


def _fitting(case: Case, memory: float, changes: Iterable[Change]) -> list[str] | None:
    """One change that fits, else several of which none is needless, more parts and more GPUs as often as they go."""
    for saving in _savings(case, changes):
        if saving.case.peak <= memory:
            return list(saving.settings)
    applied: list[Change] = []
    for change in changes:
        while (changed := change(_after(case, applied)[1])) is not None:
            applied.append(change)
            if changed[1].peak <= memory:
                return list(_after(case, _needed(case, memory, applied))[0])
    return None


def _needed(case: Case, memory: float, applied: list[Change]) -> list[Change]:
    """Without those that the others make needless."""
    for index in reversed(range(len(applied))):
        others = applied[:index] + applied[index + 1 :]
        if _after(case, others)[1].peak <= memory:
            applied = others
    return applied


def _after(case: Case, applied: Iterable[Change]) -> Changed:
    """Settings of all these changes, the last of each key, and the case with them."""
    together: dict[str, str] = {}
    for change in applied:
        if (changed := change(case)) is not None:
            settings, case = changed
            together |= {setting.replace(" ", "=").partition("=")[0]: setting for setting in settings}
    return tuple(together.values()), case


def _recompute(case: Case) -> Changed | None:
    """In all layers, then in the next mode."""
    if case.share < 1:
        return _checkpointing(evolve(case, share=1.0), "share")
    if case.mode == MODES[-1]:
        return None
    return _checkpointing(evolve(case, mode=MODES[MODES.index(case.mode) + 1]))


def _checkpointing(case: Case, *named: str) -> Changed:
    """The case by its settings. With the mode, which replaces 'auto', and with what 'auto' may have taken beside it."""
    usual = {"share": 1.0, "parts": 1}
    values = {"share": case.share, "parts": case.parts}
    others = {name: value for name, value in values.items() if value != usual[name] or name in named}
    settings = {"mode": case.mode, **others}
    return tuple(f"model.activation_checkpointing.{name}={value}" for name, value in settings.items()), case


def _cache(case: Case) -> Changed | None:
    if not case.estimate.before:
        return None
    config = _with(case.config, {"dataloader_train.cache": "DIR"})
    estimate = evolve(case.estimate, before=0.0, other_seconds=0.0)
    return ("dataloader_train.cache=DIR",), evolve(case, config=config, estimate=estimate)


def _more_parts(case: Case) -> Changed | None:
    """Twice as many, as long as each has a sample."""
    parts = 2 * case.parts
    return _checkpointing(evolve(case, parts=parts)) if parts <= case.estimate.samples else None


def _no_average(case: Case) -> Changed | None:
    if not case.config.model.ema.enabled:
        return None
    return ("model.ema.enabled=false",), evolve(case, config=_with(case.config, {"model.ema.enabled": False}))


def _more_gpus(case: Case) -> Changed | None:
    parallelism, world = case.config.model.parallelism, 2 * case.degrees.world
    if parallelism.data_parallel_shard_degree != -1 or world > MAX_GPUS:
        return None
    return (f"--nproc {world}",), evolve(case, degrees=solve_degrees(parallelism, world))


_CHANGES: tuple[Change, ...] = (_recompute, _cache, _more_parts, _no_average)


def _get(section: Any, path: list[str]) -> Any:
    value = getattr(section, path[0])
    return value if len(path) == 1 else _get(value, path[1:])


def _with(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """With other values at these keys."""
    for key, value in values.items():
        config = _set(config, key.split("."), value)
    return config


def _set(section: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    return evolve(section, **{name: _set(getattr(section, name), rest, value) if rest else value})
