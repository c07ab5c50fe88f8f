"""Warnings of likely mistakes: rates of zero, coarse weights, intervals longer than the run, keys without effect."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import attrs

from cosmos_core.config.model import ModelConfig
from cosmos_core.config.run import OptimizerConfig, RunConfig, SchedulerConfig
from cosmos_core.names import counted
from cosmos_core.plan.ineffective import ineffective
from cosmos_core.plan.plan import WeightSource
from cosmos_core.plan.schedule import factor

__all__ = ["warnings"]


def warnings(config: RunConfig, weights: WeightSource) -> list[str]:
    """One sentence each, most important first; none for a run that is already finished. weights: where it starts."""
    first, last = weights.step or 0, config.trainer.max_iter
    if first >= last:
        return []
    others = *_master(config.model), *_intervals(config), *_parts(config), *ineffective(config)
    if weights.kind == "resume" and weights.step is None:
        return list(others)
    rates = _no_rate(config, first) or _rates(config, first)
    return [*rates, *others]


def _no_rate(config: RunConfig, first: int) -> list[str]:
    """Why no step of the run changes anything."""
    optimizer, scheduler, last = config.optimizer, config.scheduler, config.trainer.max_iter
    if optimizer.lr == 0:
        reason = "optimizer.lr is 0"
    elif _all_multiplied_by_zero(optimizer):
        reason = "optimizer.lr_multipliers is 0 for all that optimizer.keys_to_select names"
    elif all(factor(scheduler, step) == 0 for step in range(first, last)):
        reason = f"the factor of [scheduler] is 0; {_why_zero(scheduler, first, last)}"
    else:
        return []
    if last == first + 1:
        return [f"step {last} has a rate of zero and changes no weight: {reason}"]
    return [f"steps {first + 1} to {last} have a rate of zero and change no weight: {reason}"]


def _why_zero(scheduler: SchedulerConfig, first: int, last: int) -> str:
    """Which part of the schedule makes the factor 0 in all of these steps."""
    ends = list(accumulate(scheduler.cycle_lengths))
    if all(step in ends or step > ends[-1] for step in range(first, last)):
        return f"its cycles end at step {next((end for end in ends if end >= first), ends[-1])}"
    if last == 1 and scheduler.warm_up_steps[0] and scheduler.f_max[0]:
        return f"its warm-up of {scheduler.warm_up_steps[0]} (scheduler.warm_up_steps) begins with f_start = 0"
    return "f_max is 0 there"


def _all_multiplied_by_zero(optimizer: OptimizerConfig) -> bool:
    factors, keys = optimizer.lr_multipliers, optimizer.keys_to_select
    named = bool(keys) and all(any(part in key for part in factors) for key in keys)
    return named and not any(factors.values())


def _rates(config: RunConfig, first: int) -> Iterator[str]:
    scheduler, last = config.scheduler, config.trainer.max_iter
    warm = scheduler.warm_up_steps[0]
    if first < warm and last <= warm:
        highest = max(factor(scheduler, step) for step in (first, last - 1))
        yield (
            f"the run of {counted(last, 'step')} ends within its warm-up of {warm} (scheduler.warm_up_steps): "
            f"the rate reaches {config.optimizer.lr * highest:.3g} instead of "
            f"{config.optimizer.lr * scheduler.f_max[0]:.3g}"
        )
    begin = 0
    for number, end in enumerate(accumulate(scheduler.cycle_lengths)):
        steps = range(max(begin, first), min(end, last))
        begin = end
        if len(steps) > 1 and scheduler.f_max[number] == scheduler.f_min[number] == 0:
            yield f"steps {steps[0] + 1} to {steps[-1] + 1} have a rate of zero: f_max and f_min of their cycle are 0"
    if last > begin:
        rate = config.optimizer.lr * factor(scheduler, begin)
        effect = f"keep its last rate, {rate:.3g}" if rate else "have a rate of zero and change no weight"
        yield (
            f"the schedule ends at step {begin} (scheduler.cycle_lengths) and the run at {last} (trainer.max_iter): "
            f"steps {max(begin, first) + 1} to {last} {effect}"
        )


_COARSE = {
    "bfloat16": "which rounds small updates away: the run learns less",
    "float16": "in which squares of small gradients are 0: the run learns less or diverges",
}
"""What is lost where trained weights, and so the moments of the optimizer, are stored in less than float32."""


def _master(model: ModelConfig) -> Iterator[str]:
    stored = model.parallelism.fsdp_master_dtype
    if stored in _COARSE:
        key = "model.parallelism.fsdp_master_dtype"
        yield f'weights that train are stored in {stored}, {_COARSE[stored]}; set {key} = "float32"'


def _intervals(config: RunConfig) -> Iterator[str]:
    """Intervals that never elapse within the run."""
    trainer, last = config.trainer, config.trainer.max_iter
    due: dict[str, Any] = {
        "checkpoint.save_iter": config.checkpoint.save_iter,
        "trainer.logging_iter": trainer.logging_iter,
    }
    if trainer.run_validation:
        due["trainer.validation_iter"] = trainer.validation_iter
    for name, callback in trainer.callbacks.items():
        in_steps = {field.name for field in attrs.fields(type(callback)) if field.metadata.get("unit") == "steps"}
        for key in sorted(in_steps | {"every_n"}):
            due[f"trainer.callbacks.{name}.{key}"] = getattr(callback, key, 0)
    late = [f"{key}={steps}" for key, steps in due.items() if isinstance(steps, int) and steps > last]
    if late:
        yield f"these intervals are longer than the run of {counted(last, 'step')}: {', '.join(late)}"


def _parts(config: RunConfig) -> Iterator[str]:
    """Parts of a pack for which it can have no sample."""
    checkpointing, most = config.model.activation_checkpointing, config.dataloader_train.max_samples_per_batch
    if checkpointing.mode != "auto" and most is not None and checkpointing.parts > most:
        yield (
            f"model.activation_checkpointing.parts is {checkpointing.parts}, and a pack has at most "
            f"{counted(most, 'sample')} (dataloader_train.max_samples_per_batch): "
            f"{checkpointing.parts - most} of them only repeat a sample"
        )
