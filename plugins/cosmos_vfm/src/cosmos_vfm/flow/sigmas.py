"""Sigmas (noise levels) of training samples (docs/models/generator.md, Sigmas)."""

from __future__ import annotations

import math

import torch

from cosmos_core.errors import UserError
from cosmos_vfm.config import DEFAULT_SHIFT

__all__ = ["draw_sigma", "inverse_cdf", "resolution_key", "time_shift"]

_SIDES_768 = {(880, 1184), (768, 1360)}
"""(Short side, long side) of the sizes of key 768 that would have another key by their short side."""
_KEY_BY_SHORT_SIDE = ((256, "256"), (640, "480"), (960, "720"), (2048, "768"))


def resolution_key(width: int, height: int) -> str:
    """Key in the shift table for a clip of this size in pixels."""
    short, long = sorted((width, height))
    if (short, long) in _SIDES_768:
        return "768"
    for limit, key in _KEY_BY_SHORT_SIDE:
        if short <= limit:
            return key
    raise UserError(f"no noise shift is defined for videos of {width}x{height} pixels")


def inverse_cdf(u: torch.Tensor, distribution: str) -> torch.Tensor:
    """Sigma in [0, 1] before the time shift, from u in [0, 1]. With 'waver' it falls from 1 to 0 as u grows."""
    if distribution == "waver":
        return 1 - u - 1.29 * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
    return torch.sigmoid(torch.special.ndtri(u))


def time_shift(sigma: torch.Tensor, shift: float) -> torch.Tensor:
    """The shifted level s t / (1 + (s - 1) t)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def shift_for(table: dict[str, float], width: int, height: int) -> float:
    """Shift for a size in pixels: the table's, else the default; for 768 without an entry that of 720."""
    key = resolution_key(width, height)
    if key == "768" and key not in table:
        key = "720"
    return {**DEFAULT_SHIFT, **table}[key]


def draw_sigma(distribution: str, shift: float, generator: torch.Generator) -> float:
    """One sigma, drawn on the CPU in float32."""
    if distribution == "waver":
        sigma = inverse_cdf(torch.rand((), generator=generator), distribution)
    else:
        sigma = torch.sigmoid(torch.randn((), generator=generator))
    return float(time_shift(sigma, shift))
