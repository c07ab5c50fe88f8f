"""Copies to a device that the host does not wait for."""

from __future__ import annotations

import torch

__all__ = ["page_locked", "to_device"]


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on `device`, copied from pinned memory: a copy from pageable memory waits for pending device work."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return page_locked(tensor, device).to(device, non_blocking=True)


def page_locked(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor in pinned memory, which a GPU reads by itself; unchanged where `device` is no GPU.

    Pinning copies, so families pin large tensors in `collate`, which runs in a thread beside the training loop.
    """
    return tensor.pin_memory() if device.type == "cuda" else tensor
