"""Learning-rate factors over optimizer steps (docs/training.md, Learning-rate schedule)."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate

from cosmos_core.config.run import SchedulerConfig

__all__ = ["factor"]


def factor(config: SchedulerConfig, step: int) -> float:
    """Factor on the learning rate of the update that follows `step` finished ones.

    A boundary step belongs to the cycle that ends there; after the last cycle its final factor stays.
    """
    ends = list(accumulate(config.cycle_lengths))
    step = min(step, ends[-1])
    cycle = bisect_left(ends, step)
    within = step - (ends[cycle - 1] if cycle else 0)
    length, warm = config.cycle_lengths[cycle], config.warm_up_steps[cycle]
    start, high, low = config.f_start[cycle], config.f_max[cycle], config.f_min[cycle]
    if within < warm or warm == length:
        return (high - start) / warm * within + start
    if config.type == "LambdaLinear":
        return low + (high - low) * (length - within) / (length - warm)
    progress = (within - warm) / (length - warm)
    return low + 0.5 * (high - low) * (1 + math.cos(math.pi * progress))
