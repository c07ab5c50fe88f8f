"""Attention by the name of its layout."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import torch

from cosmos_core.distributed import attention_kernels
from cosmos_vfm.network.attending import Attending
from cosmos_vfm.network.flex import Flex
from cosmos_vfm.network.segments import Segments
from cosmos_vfm.network.three_way import ThreeWay, uses_natten

__all__ = ["LAYOUTS", "described"]

LAYOUTS: dict[str, Callable[[Segments, torch.device], Attending]] = {
    "two_way": lambda segments, device: segments,
    "three_way": ThreeWay,
    "flex": Flex,
}
"""Built once a forward pass, used by every layer."""


def described(layout: str, device: torch.device) -> str:
    """Which kernels serve a layout on a device."""
    if layout == "three_way" and uses_natten(device):
        return f"three_way through NATTEN {version('natten')}"
    if layout in ("three_way", "flex"):
        return f"{layout} through " + ("FlexAttention" if device.type == "cuda" else "dense arithmetic")
    return f"two_way through {attention_kernels(device)}"
