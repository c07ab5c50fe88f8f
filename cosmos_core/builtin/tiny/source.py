"""Points of a smooth function."""

from __future__ import annotations

import numpy as np
import torch

from cosmos_core.builtin.tiny.config import TinyData
from cosmos_core.data.source import MapSource, UnreadableSample
from cosmos_core.seeds import stream_seed

__all__ = ["TinySource"]


class TinySource(MapSource):
    """Sample i holds 1 to 4 points: a float32 tensor [n, 3] of x0, x1, y."""

    def __init__(self, config: TinyData) -> None:
        self.config = config

    def __len__(self) -> int:
        return self.config.count

    def get(self, index: int, random: np.random.Generator) -> torch.Tensor:
        """The points of one sample."""
        if self.config.broken and index % self.config.broken == 0:
            raise UnreadableSample(f"sample {index}", "broken on purpose")
        own = np.random.default_rng(stream_seed(self.config.seed, "tiny", index))
        x = own.uniform(-1, 1, (1 + index % 4, 2))
        y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2
        if self.config.not_finite and index % self.config.not_finite == 0:
            y[0] = np.nan
        return torch.tensor(np.column_stack([x, y]), dtype=torch.float32)
