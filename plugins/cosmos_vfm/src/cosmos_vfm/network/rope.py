"""Rotary embedding over time, height and width, interleaved (spec/vfm.md 2.7)."""

from __future__ import annotations

import torch

__all__ = ["Rotation", "rotate", "rotation"]

Rotation = tuple[torch.Tensor, torch.Tensor]
"""cos and sin, each [N, 1, head_dim] in the activation dtype."""


def axis_of_slot(head_dim: int) -> list[int]:
    """Axis (0 time, 1 height, 2 width) of each of the head_dim / 2 frequencies.

    Slots run T H W T H W ... as long as height and width have any (20 of 64 each), then T.
    """
    half = head_dim // 2
    interleaved = 3 * (half * 20 // 64)
    return [slot % 3 if slot < interleaved else 0 for slot in range(half)]


def rotation(positions: torch.Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> Rotation:
    """cos and sin for positions [3, N] (float32, never lower: values reach 15000 with steps of thousandths)."""
    device = positions.device
    half = head_dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=device) * 2 / head_dim
    frequencies = theta**-exponents
    axes = torch.tensor(axis_of_slot(head_dim), device=device)
    angles = positions.float()[axes].T * frequencies
    angles = torch.cat([angles, angles], dim=-1).unsqueeze(1)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: torch.Tensor, by: Rotation) -> torch.Tensor:
    """Rotate heads x [N, heads, head_dim] in their own dtype, halves paired."""
    cos, sin = by
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
