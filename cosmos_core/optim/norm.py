"""The global gradient norm, over all ranks' shards."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.tensor import DTensor

__all__ = ["clip_to", "gradient_norm"]


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """L2 norm of all gradients, a scalar on the device, the same on every rank."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def clip_to(model: nn.Module, limit: float, norm: torch.Tensor) -> None:
    """Scale all gradients by min(1, limit / (norm + 1e-6))."""
    scale = (limit / (norm + 1e-6)).clamp(max=1.0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
            gradient.mul_(scale.to(gradient.device))
