"""Noise levels of training samples (docs/models/generator.md, Noise levels)."""

from __future__ import annotations

import math

import torch

from cosmos_core.errors import Problem, UserError

__all__ = ["draw_sigma", "quantile", "resolution_key", "shifted"]

_SHAPES_768 = {(1024, 1024), (1184, 880), (880, 1184), (1360, 768), (768, 1360)}
_KEY_BY_SHORT_SIDE = ((256, "256"), (640, "480"), (960, "720"), (2048, "768"))


def resolution_key(width: int, height: int) -> str:
    """Key of the shift table for a clip's pixel size."""
    if (width, height) in _SHAPES_768:
        return "768"
    short = min(width, height)
    for limit, key in _KEY_BY_SHORT_SIDE:
        if short <= limit:
            return key
    raise UserError(f"no noise shift is defined for videos of {width}x{height} pixels")


def quantile(u: torch.Tensor, distribution: str) -> torch.Tensor:
    """Unshifted level in [0, 1] at the quantile u: 'waver' falls from 1 to 0, 'logitnormal' rises."""
    if distribution == "waver":
        return 1 - u - 1.29 * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)
    return torch.sigmoid(torch.special.ndtri(u))


def shifted(level: torch.Tensor, shift: float) -> torch.Tensor:
    """s t / (1 + (s - 1) t)."""
    return shift * level / (1 + (shift - 1) * level)


def shift_for(table: dict[str, float], width: int, height: int) -> float:
    """Shift of a pixel size. Raises UserError naming the key to set when the table lacks it."""
    key = resolution_key(width, height)
    if key not in table:
        hint = f"set model.flow.shift.{key}=VALUE"
        problem = Problem(message=f"has no entry for {width}x{height} pixels", key="model.flow.shift", hint=hint)
        raise UserError("the noise shift of this resolution is not set", [problem])
    return table[key]


def draw_sigma(distribution: str, shift: float, generator: torch.Generator) -> float:
    """One noise level, drawn on the CPU in float32."""
    if distribution == "waver":
        level = quantile(torch.rand((), generator=generator), distribution)
    else:
        level = torch.sigmoid(torch.randn((), generator=generator))
    return float(shifted(level, shift))
