"""What the loop shares with callbacks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cosmos_core.config.run import RunConfig
from cosmos_core.data.source import MapSource
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.seeds import Streams
from cosmos_core.train.family import ModelFamily

__all__ = ["TrainState"]


@dataclass(slots=True)
class TrainState:
    """The run as callbacks see it. `step` counts completed optimizer steps.

    metrics: the newest row that has left the device, on an accelerator that of the step before. grad_norm: of
    the step's gradients, before any callback changed them; None before the first step.
    """

    config: RunConfig
    family: ModelFamily
    model: nn.Module
    optimizer: torch.optim.Optimizer
    mesh: Mesh
    streams: Streams
    step: int
    max_iter: int
    log: Callable[[dict[str, Any]], None]
    ema_weights: Callable[[], AbstractContextManager[None]]
    train_source: MapSource
    validation_source: MapSource | None = None
    grad_norm: torch.Tensor | None = None
    stop_requested: bool = False
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes shared files."""
        return self.mesh.rank == 0
