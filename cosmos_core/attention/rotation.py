"""The rotary embedding's rotation; models differ in their angles alone."""

from __future__ import annotations

import torch

__all__ = ["rotate"]


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate x [..., head_dim] in its dtype; the two halves of head_dim form pairs. cos, sin: that broadcast to x."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin
