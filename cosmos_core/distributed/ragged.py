"""Attention over stretches of unequal lengths in one kernel, without padding, where the device has such a kernel."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import torch
from attrs import frozen

from cosmos_core.distributed.transfer import transferred

__all__ = ["Ragged", "has_ragged_attention", "has_ragged_kernel", "ragged_attention"]

_AMPERE = (8, 0)
_WIDEST = 256


@frozen(eq=False)
class Ragged:
    """Stretches one after another. offsets: int32 [stretches + 1], where each begins; longest: tokens."""

    offsets: torch.Tensor
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Ragged:
        """From the tokens of each stretch."""
        return cls(torch.tensor([0, *lengths]).cumsum(0).to(torch.int32), max(lengths))

    def to(self, device: torch.device) -> Ragged:
        """With its offsets on `device`."""
        return Ragged(transferred(self.offsets, device), self.longest)


def has_ragged_attention(q: torch.Tensor) -> bool:
    """Whether `ragged_attention` takes queries [N, heads, dim] of this device, dtype and dim."""
    small = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= _WIDEST
    return small and q.device.type == "cuda" and has_ragged_kernel(q.device)


def ragged_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, stretches: Ragged, *, causal: bool
) -> torch.Tensor:
    """q [N, heads, dim], k and v [N, kv heads, dim]; returns [N, heads, dim]. No stretch looks into another.

    On one H100 1.3 to 1.6 times as fast as padded batches of like lengths, but slower than cuDNN's kernel where all
    lengths are equal (tests/benchmarks/RESULTS.md).
    """
    offsets, longest = stretches.offsets, stretches.longest
    window = (-1, 0) if causal else (-1, -1)
    mixed: torch.Tensor = _kernel()(q, k, v, offsets, offsets, longest, longest, window_size=window)
    return mixed


@cache
def _kernel() -> Any:
    from torch.nn.attention.varlen import varlen_attn

    # Since torch 2.12 fewer key-value heads have to be asked for; before, they were taken without a word.
    asked = "enable_gqa" in inspect.signature(varlen_attn).parameters
    return partial(varlen_attn, enable_gqa=True) if asked else varlen_attn


@cache
def has_ragged_kernel(device: torch.device) -> bool:
    """Whether a device has the kernel at all."""
    return torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= _AMPERE
