"""Attention backends by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import torch

from cosmos_core.attention import describe_kernels
from cosmos_vfm.network.backend import AttentionBackend
from cosmos_vfm.network.flex import Flex
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.network.three_way import ThreeWay, uses_natten
from cosmos_vfm.network.two_way import TwoWay

__all__ = ["ATTENTION_BACKENDS", "describe_backend"]

ATTENTION_BACKENDS: dict[str, Callable[[JointSequences], AttentionBackend]] = {
    "two_way": TwoWay,
    "three_way": ThreeWay,
    "flex": Flex,
}
"""Backends are built once per forward pass and used by every layer."""


def describe_backend(name: str, device: torch.device) -> str:
    """The kernels that a backend uses on a device, for the log."""
    if name == "three_way" and uses_natten(device):
        return f"three_way through NATTEN {version('natten')}"
    if name in ("three_way", "flex"):
        return f"{name} through " + ("FlexAttention" if device.type == "cuda" else "dense arithmetic")
    return f"two_way through {describe_kernels(device)}"
