"""Memory of an accelerator."""

from __future__ import annotations

import torch

__all__ = ["device_memory"]


def device_memory(device: torch.device) -> float | None:
    """GiB that a GPU has in all; None for a CPU, whose memory has no fixed limit."""
    return torch.cuda.get_device_properties(device).total_memory / 2**30 if device.type == "cuda" else None
