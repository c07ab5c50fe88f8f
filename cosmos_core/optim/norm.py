"""The global gradient norm over all ranks' shards, clipping, and finite checks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from cosmos_core.distributed.fsdp import to_local

__all__ = ["all_finite", "clip_to", "gradient_norm", "not_finite", "zero_non_finite"]


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """L2 norm of all gradients, a scalar on the device, the same on every rank."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def clip_to(model: nn.Module, limit: float, norm: torch.Tensor) -> None:
    """Scale all gradients by min(1, limit / (norm + 1e-6)); by 1 when the norm is not finite."""
    scale = (limit / (norm + 1e-6)).clamp(max=1.0).where(torch.isfinite(norm), 1.0)
    if gradients := _own_gradients(model):
        torch._foreach_mul_(gradients, scale.to(gradients[0].device))


def zero_non_finite(model: nn.Module) -> None:
    """Replace NaN and infinities in all gradients by zero."""
    for gradient in _own_gradients(model):
        gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def all_finite(model: nn.Module) -> bool:
    """Whether this process's part of every weight is finite; waits for the device."""
    return not not_finite(dict(model.named_parameters()))


def not_finite(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of those whose part on this process holds NaN or an infinity; waits for the device."""
    own = {name: to_local(value.detach()) for name, value in tensors.items() if value.is_floating_point()}
    own = {name: value for name, value in own.items() if value.numel()}
    largest = torch._foreach_norm(list(own.values()), float("inf")) if own else ()
    return [name for name, value in zip(own, largest, strict=True) if not bool(torch.isfinite(value))]


def _own_gradients(model: nn.Module) -> list[torch.Tensor]:
    """This rank's shard of every gradient, sharing its memory."""
    gradients = (parameter.grad for parameter in model.parameters() if parameter.grad is not None)
    return [to_local(value) for value in gradients]
