"""RMSNorm in the rounding orders of both backbones (docs/models/generator.md, RMSNorm)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["RmsNorm"]


class RmsNorm(nn.Module):
    """Qwen rounds to the input dtype before multiplying by the weight, Nemotron after."""

    def __init__(self, size: int, eps: float, float_product: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.float_product = float_product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> [..., size], same dtype."""
        if x.dtype == torch.float32:
            return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        wide = functional.rms_norm(x.float(), self.weight.shape, eps=self.eps)
        if self.float_product:
            return (self.weight.float() * wide).to(x.dtype)
        return self.weight * wide.to(x.dtype)
