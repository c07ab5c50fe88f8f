"""torch random generators for counter-based streams."""

from __future__ import annotations

import torch
from attrs import frozen

from cosmos_core.seeds import stream_seed

__all__ = ["Streams"]


@frozen
class Streams:
    """All random draws of a run. A stream is named by its purpose and counters (sample position, step)."""

    seed: int

    def generator(self, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator on `device`; the same arguments always give the same numbers."""
        generator = torch.Generator(device=device)
        generator.manual_seed(stream_seed(self.seed, purpose, *counters))
        return generator
