"""One attention in parts: over some of the keys at a time, merged by the log-sum-exp of each part's scores."""

from __future__ import annotations

import math

import torch

from cosmos_core.attention.kernels import compiled_flex_attention

__all__ = ["OutputLse", "attention_with_lse", "merge_attentions"]

OutputLse = tuple[torch.Tensor, torch.Tensor]
"""Output [N, heads, dim], and the log-sum-exp of its scores [N, heads] in float32."""


def attention_with_lse(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> OutputLse:
    """Full attention of one sequence, q [N, heads, dim] over k and v [M, kv heads, dim].

    FlexAttention on an accelerator, written out on the CPU.
    """
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    if q.is_cuda:
        out, lse = compiled_flex_attention()(q, k, v, enable_gqa=True, return_lse=True)
    else:
        groups = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(groups, dim=1) for x in (k, v))
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        lse = scores.logsumexp(-1)
        out = (scores - lse.unsqueeze(-1)).exp().to(v.dtype) @ v
    return out[0].transpose(0, 1), lse[0].transpose(0, 1)


def merge_attentions(first: OutputLse, second: OutputLse) -> torch.Tensor:
    """Attention over the keys of both: (e^l1 o1 + e^l2 o2) / (e^l1 + e^l2), in the outputs' dtype."""
    share = torch.sigmoid(first[1] - second[1]).unsqueeze(-1)
    return (share * first[0].float() + (1 - share) * second[0].float()).to(first[0].dtype)
