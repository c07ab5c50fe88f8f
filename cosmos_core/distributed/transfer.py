"""Copies from the host that wait for nobody."""

from __future__ import annotations

import torch

__all__ = ["transferred"]


def transferred(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`. From pageable memory a copy would first wait for what the device has still to do."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
