"""Latents over text and latents over latents as two attentions, merged by their weights.

See docs/models/generator.md, Attention implementations.

Equal to one attention over both; it exists so that the second one may become sparse.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from cosmos_vfm.network.attending import KeysValues
from cosmos_vfm.network.segments import Segments

__all__ = ["ThreeWay", "attend_with_weight", "merge", "uses_natten"]

Weighted = tuple[torch.Tensor, torch.Tensor]
"""Output [N, heads, dim], and the log of the summed weights [N, heads] in float32."""


class ThreeWay:
    """The layout over one pack."""

    def __init__(self, segments: Segments, device: torch.device) -> None:
        self.segments = segments
        self._both = _natten if uses_natten(device) else _merged

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As in every layout."""
        return self.segments.attend_text(q, k, v)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """Sample by sample."""
        text = zip(*(x.split(self.segments.text.lengths) for x in text_kv), strict=True)
        own = zip(*(x.split(self.segments.latents.lengths) for x in (q, *latent_kv)), strict=True)
        parts = [
            self._both(query, (text_k, text_v), (k, v))
            for (text_k, text_v), (query, k, v) in zip(text, own, strict=True)
        ]
        return torch.cat(parts).flatten(1)


@cache
def uses_natten(device: torch.device) -> bool:
    """Whether both attentions run through NATTEN; without it they run through FlexAttention.

    A NATTEN that was built without its kernels falls back to an uncompiled FlexAttention, whose backward pass is wrong
    (seen on an H100 with NATTEN 0.21.7 and torch 2.11).
    """
    if device.type != "cuda" or find_spec("natten") is None:
        return False
    import natten

    return bool(natten.HAS_LIBNATTEN)


def _merged(q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
    return merge(attend_with_weight(q, *latent_kv), attend_with_weight(q, *text_kv))


def merge(first: Weighted, second: Weighted) -> torch.Tensor:
    """(e^l1 o1 + e^l2 o2) / (e^l1 + e^l2), in the outputs' dtype."""
    share = torch.sigmoid(first[1] - second[1]).unsqueeze(-1)
    return (share * first[0].float() + (1 - share) * second[0].float()).to(first[0].dtype)


def attend_with_weight(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Weighted:
    """Full attention of one sample: FlexAttention on an accelerator, written out on the CPU."""
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    if q.is_cuda:
        out, weight = _compiled_flex()(q, k, v, enable_gqa=True, return_lse=True)
    else:
        groups = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        weight = scores.logsumexp(-1)
        out = (scores - weight.unsqueeze(-1)).exp().to(v.dtype) @ v
    return out[0].transpose(0, 1), weight[0].transpose(0, 1)


@cache
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _natten(q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
    """The same through the package: [batch, tokens, heads, dim] there, and its own merging, whose backward pass knows
    of both attentions."""
    import natten

    query = q[None].contiguous()
    parts = [
        natten.attention(query, k[None].contiguous(), v[None].contiguous(), return_lse=True)
        for k, v in (latent_kv, text_kv)
    ]
    outputs, weights = zip(*parts, strict=True)
    return natten.merge_attentions(list(outputs), list(weights))[0][0]
