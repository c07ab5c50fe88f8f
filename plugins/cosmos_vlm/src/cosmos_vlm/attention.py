"""The `cosmos` attention of the reasoner: every stretch of a pack on its own, without a mask over the square."""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.distributed import fastest_attention

__all__ = ["COSMOS", "packed_attention", "register"]

COSMOS = "cosmos_packed"


@cache
def register() -> str:
    """Make transformers build no mask under this name; returns it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(COSMOS, _refused)
    AttentionMaskInterface.register(COSMOS, _no_mask)
    return COSMOS


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Stretches are kept apart by their lengths."""


def _refused(*arguments: Any, **options: Any) -> None:
    raise AssertionError("blocks with packed attention do not call the library's attention")


def packed_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: tuple[int, ...], *, causal: bool
) -> torch.Tensor:
    """q [heads, N, dim], k and v [kv heads, N, dim]; returns [N, heads, dim].

    lengths: tokens of each stretch, in order; none looks into another. Neighbours of one length run as one batch.
    """
    mixed, start = [], 0
    with fastest_attention(q.device):
        for length, group in groupby(lengths):
            count = len(list(group))
            part = slice(start, start + count * length)
            rows, keys, values = (x[:, part].unflatten(1, (count, length)).transpose(0, 1) for x in (q, k, v))
            one = scaled_dot_product_attention(rows, keys, values, is_causal=causal, enable_gqa=len(q) != len(k))
            mixed.append(one.transpose(1, 2).flatten(0, 1))
            start += count * length
    return torch.cat(mixed) if len(mixed) > 1 else mixed[0]
