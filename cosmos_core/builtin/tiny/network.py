"""The toy network: a residual MLP."""

from __future__ import annotations

import torch
from torch import nn

from cosmos_core.builtin.tiny.config import TinyModel

__all__ = ["TinyNetwork"]


class Block(nn.Module):
    """x + down(relu(up(x)))."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden, 2 * hidden)
        self.down = nn.Linear(2 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, hidden] -> [n, hidden]."""
        return x + self.down(torch.relu(self.up(x)))


class TinyNetwork(nn.Module):
    """[n, 2] -> [n, 1]."""

    def __init__(self, config: TinyModel) -> None:
        super().__init__()
        self.embed = nn.Linear(2, config.hidden)
        self.blocks = nn.ModuleList(Block(config.hidden) for _ in range(config.layers))
        self.head = nn.Linear(config.hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predicted y."""
        hidden = self.embed(x)
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(hidden)
