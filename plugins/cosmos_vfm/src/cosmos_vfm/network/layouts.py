"""Attention by the name of its layout, and the kernels it prefers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cosmos_vfm.network.attending import Attending
from cosmos_vfm.network.flex import Flex
from cosmos_vfm.network.segments import Segments
from cosmos_vfm.network.three_way import ThreeWay

__all__ = ["LAYOUTS", "preferred_kernels"]

LAYOUTS: dict[str, Callable[[Segments, torch.device], Attending]] = {
    "two_way": lambda segments, device: segments,
    "three_way": lambda segments, device: ThreeWay(segments),
    "flex": Flex,
}
"""Built once a forward pass, used by every layer."""

_HOPPER = (9, 0)


@contextmanager
def preferred_kernels(device: torch.device) -> Iterator[None]:
    """cuDNN's attention first on Hopper and newer, where it is nearly twice as fast as the flash kernel."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < _HOPPER:
        yield
        return
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    with sdpa_kernel(order, set_priority=True):
        yield
