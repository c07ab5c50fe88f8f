"""Timestep embedding of sigma, in float32 arithmetic for any dtype of the weights.

See docs/models/generator.md, Timestep embedding.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.functional import linear

__all__ = ["TimeEmbedder", "time_features"]

FREQUENCIES = 256
MAX_PERIOD = 10000.0
TRAIN_TIMESTEPS = 1000
TIMESTEP_SCALE = 0.001


def time_features(sigma: torch.Tensor) -> torch.Tensor:
    """[B] sigmas in [0, 1] -> [B, 256] float32: cosines, then sines."""
    half = FREQUENCIES // 2
    powers = torch.arange(half, dtype=torch.float32, device=sigma.device) / half
    # Sigma to timestep and back, to round as the base models do.
    scaled = sigma.float() * TRAIN_TIMESTEPS * TIMESTEP_SCALE
    angles = scaled[:, None] * torch.exp(-math.log(MAX_PERIOD) * powers)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimeEmbedder(nn.Module):
    """Linear, SiLU, Linear."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, sigma: torch.Tensor) -> torch.Tensor:
        """[B] -> [B, hidden], float32."""
        first, activation, second = self.mlp
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        hidden = activation(linear(time_features(sigma), first.weight.float(), first.bias.float()))
        return linear(hidden, second.weight.float(), second.bias.float())
