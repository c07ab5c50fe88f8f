"""The counter-based random number generator."""

from __future__ import annotations

import torch
from attrs import frozen

from cosmos_core.seeds import stream_seed

__all__ = ["CounterRng"]


@frozen
class CounterRng:
    """All random draws of a run: each is a function of the seed, its purpose and counters (sample index, step)."""

    seed: int

    def generator(self, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator on `device`; the same arguments always give the same numbers."""
        generator = torch.Generator(device=device)
        generator.manual_seed(stream_seed(self.seed, purpose, *counters))
        return generator
