"""Moving average of the trained weights with a power-function profile (docs/training.md, Moving average)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from cosmos_core.config.model import Ema as EmaConfig
from cosmos_core.distributed.fsdp import reshard, to_local

__all__ = ["Ema", "beta", "exponent"]


def exponent(rate: float) -> float:
    """The largest real root of x^3 + 7x^2 + (16 - 1/s^2)x + (12 - 1/s^2) for the relative width s = `rate`."""
    inverse = rate**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(roots[np.isreal(roots)].real.max())


def beta(iteration: int, power: float) -> float:
    """Decay of the old average; 0 at iteration 0, so the first update copies the weights."""
    return (1 - 1 / (iteration + 1)) ** (power + 1)


class Ema:
    """Float32 averages of parameters, sharded like them. names: which ones; by default those that train."""

    def __init__(self, model: nn.Module, config: EmaConfig, names: Collection[str] | None = None) -> None:
        self.model = model
        self.config = config
        self.power = exponent(config.rate)
        trained = {name for name, value in model.named_parameters() if value.requires_grad}
        averaged = trained if names is None else names
        self.parameters = {name: value for name, value in model.named_parameters() if name in averaged}
        self.shadows = {name: value.detach().float().clone() for name, value in self.parameters.items()}

    def restart(self, loaded: Collection[str] = ()) -> list[str]:
        """Set the shadows to the live weights, except those that were loaded; returns the names of the others."""
        rest = [name for name in self.parameters if name not in loaded]
        for name in rest:
            to_local(self.shadows[name]).copy_(to_local(self.parameters[name].detach()))
        return rest

    @torch.no_grad()
    def update(self, step: int, finite: torch.Tensor) -> None:
        """Update the average after optimizer step `step` (1 for the first).

        finite: bool scalar on the device; if False, the average does not change. The host does not wait for it.
        """
        decay = beta(step - 1 + self.config.iteration_shift, self.power)
        weight = torch.where(finite, 1 - decay, 0.0).float()
        for name, shadow in self.shadows.items():
            to_local(shadow).lerp_(to_local(self.parameters[name].detach()).float(), weight)

    def install(self) -> None:
        """Replace the live weights by the averaged ones."""
        self._assign({name: to_local(shadow) for name, shadow in self.shadows.items()})

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """The averaged weights replace the live ones while inside."""
        live = {name: to_local(value.detach()).clone() for name, value in self.parameters.items()}
        self.install()
        try:
            yield
        finally:
            self._assign(live)

    @torch.no_grad()
    def _assign(self, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            to_local(self.parameters[name]).copy_(value)
        reshard(self.model)
