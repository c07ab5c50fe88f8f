"""The `cosmos` attention of the reasoner: every dialog of a pack on its own, without a mask over the square.

Dialogs of equal lengths run as one batch. Registered with transformers under a name of its own, so that its modules
stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["COSMOS", "register"]

COSMOS = "cosmos_packed"


@cache
def register() -> str:
    """Make the path known to transformers; returns its name there."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(COSMOS, _attend)
    AttentionMaskInterface.register(COSMOS, _no_mask)
    return COSMOS


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Dialogs are kept apart by their lengths."""


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    lengths: tuple[int, ...] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """query [1, heads, N, dim], key and value [1, kv heads, N, dim]; returns [1, N, heads, dim].

    lengths: tokens of each dialog, in order; without, one stretch, as the vision tower calls it frame by frame.
    """
    causal = bool(getattr(module, "is_causal", False)) if is_causal is None else is_causal

    def one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=scaling, dropout_p=dropout, enable_gqa=q.shape[1] != k.shape[1]
        )

    if lengths is None or len(lengths) == 1:
        mixed = one(query, key, value)
    elif len(set(lengths)) == 1:
        rows = [x.unflatten(2, (len(lengths), lengths[0])).squeeze(0).transpose(0, 1) for x in (query, key, value)]
        mixed = one(*rows).transpose(0, 1).flatten(1, 2).unsqueeze(0)
    else:
        parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
        mixed = torch.cat([one(*part) for part in parts], dim=2)
    return mixed.transpose(1, 2).contiguous(), None
