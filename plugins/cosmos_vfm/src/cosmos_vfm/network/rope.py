"""Interleaved rotary embedding over time, height and width (docs/models/generator.md, Rotary embedding)."""

from __future__ import annotations

from functools import lru_cache

import torch

__all__ = ["Rotation", "axes_of_head", "rotation"]

Rotation = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, each [N, 1, head_dim] in the activation dtype."""


def axis_of_slot(head_dim: int) -> list[int]:
    """Axis (0 time, 1 height, 2 width) of each of the head_dim / 2 frequencies.

    The order is T H W T H W ... until height and width have theirs (20 of 64 each), then T.
    """
    interleaved = 3 * axes_of_head(head_dim)[1]
    return [slot % 3 if slot < interleaved else 0 for slot in range(head_dim // 2)]


def axes_of_head(head_dim: int) -> tuple[int, int, int]:
    """How many of the head_dim / 2 frequencies turn with time, height and width: 24, 20, 20 of 64."""
    half = head_dim // 2
    space = half * 20 // 64
    return half - 2 * space, space, space


@lru_cache(maxsize=16)
def _table(head_dim: int, theta: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Frequency (float32) and axis of every slot.

    Computed on the CPU, as in the base models: at position 15000 the last bit is a thousandth of a radian.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    axes = torch.tensor(axis_of_slot(head_dim), device="cpu")
    return (1.0 / theta**exponents).to(device), axes.to(device)


def rotation(positions: torch.Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> Rotation:
    """Cos and sin for positions [3, N] (float32, never lower: values reach 15000 with steps of thousandths)."""
    frequencies, axes = _table(head_dim, theta, positions.device)
    angles = positions.float()[axes].T * frequencies
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles.cos().to(dtype), angles.sin().to(dtype)
