"""The learning-rate schedule of an optimizer (docs/training.md, Learning-rate schedule)."""

from __future__ import annotations

import torch
from torch.optim.lr_scheduler import LambdaLR

from cosmos_core.config.run import SchedulerConfig
from cosmos_core.plan.schedule import factor

__all__ = ["build_scheduler"]


def build_scheduler(optimizer: torch.optim.Optimizer, config: SchedulerConfig, step: int = 0) -> LambdaLR:
    """A LambdaLR with the same factor for every group.

    step: finished optimizer steps; the rates are set to those of the next one.
    """

    def shape(step: int) -> float:
        return factor(config, step)

    return LambdaLR(optimizer, shape, last_epoch=step - 1)
