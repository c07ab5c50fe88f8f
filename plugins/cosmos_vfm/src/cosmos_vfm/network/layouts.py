"""Attention by the name of its layout."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cosmos_vfm.network.attending import Attending
from cosmos_vfm.network.flex import Flex
from cosmos_vfm.network.segments import Segments
from cosmos_vfm.network.three_way import ThreeWay

__all__ = ["LAYOUTS"]

LAYOUTS: dict[str, Callable[[Segments, torch.device], Attending]] = {
    "two_way": lambda segments, device: segments,
    "three_way": lambda segments, device: ThreeWay(segments),
    "flex": Flex,
}
"""Built once a forward pass, used by every layer."""
