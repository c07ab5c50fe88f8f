"""torch's attention with the kernels in the order that is fastest on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.distributed.ragged import has_ragged_kernel

__all__ = ["attention", "attention_kernels", "fastest_attention"]

_HOPPER = (9, 0)
_FLASH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


@contextmanager
def fastest_attention(device: torch.device, *, shapes_return: bool = True) -> Iterator[None]:
    """Inside, scaled_dot_product_attention tries its kernels in the order that is fastest on `device`.

    On Hopper and newer cuDNN's kernel comes first, nearly twice as fast as the flash kernel there; but it makes a plan
    for every shape it has not met, which takes longer than a step (github.com/modelscope/FunASR/issues/3704), so it is
    only for shapes that come again. To be entered around the calls themselves, because recomputation calls again from
    outside of the forward pass.
    """
    if device.type == "cuda" and _prefers_cudnn(device):
        order = [SDPBackend.CUDNN_ATTENTION, *_FLASH] if shapes_return else _FLASH
        with sdpa_kernel(order, set_priority=True):
            yield
    else:
        yield


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """scaled_dot_product_attention over [batch, heads, tokens, dim] with fewer key-value heads."""
    with fastest_attention(q.device):
        return scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)


def attention_kernels(device: torch.device) -> str:
    """What `attention` runs on a device, for people to read."""
    if device.type != "cuda":
        return "torch's kernel for the CPU"
    first = "cuDNN" if _prefers_cudnn(device) else "FlashAttention"
    return f"{first}, and torch's kernel for unequal lengths" if has_ragged_kernel(device) else first


@cache
def _prefers_cudnn(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= _HOPPER
