"""Latents over text and latents over latents: two attentions, merged by their log-sum-exp (LSE).

See docs/models/generator.md, Attention implementations.

The result equals one attention over both. Apart, the second one could be sparse.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from cosmos_core.attention import attention_with_lse, merge_attentions
from cosmos_vfm.network.backend import KeysValues
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.network.two_way import TwoWay

__all__ = ["ThreeWay", "natten_attention", "uses_natten"]


class ThreeWay(TwoWay):
    """Backend `three_way`. Text attends as in two_way."""

    def __init__(self, sequences: JointSequences) -> None:
        super().__init__(sequences)
        self._attend_and_merge = natten_attention if uses_natten(self.latents.device) else _merged

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """One sample after another."""
        parts = [self._attend_and_merge(*sample) for sample in self.sequences.samples(q, text_kv, latent_kv)]
        return torch.cat(parts)


def uses_natten(device: torch.device) -> bool:
    """Whether both attentions run in NATTEN instead of FlexAttention.

    Not where operators must be deterministic: the backward passes of some of its kernels cannot be.
    """
    return _has_natten(device) and not torch.are_deterministic_algorithms_enabled()


@cache
def _has_natten(device: torch.device) -> bool:
    """Whether NATTEN is there with its kernels.

    Built without them it falls back to an uncompiled FlexAttention, whose backward pass is wrong (seen on an H100 with
    NATTEN 0.21.7 and torch 2.11).
    """
    if device.type != "cuda" or find_spec("natten") is None:
        return False
    import natten

    return bool(natten.HAS_LIBNATTEN)


def _merged(q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
    return merge_attentions(attention_with_lse(q, *latent_kv), attention_with_lse(q, *text_kv))


def natten_attention(q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
    """The same in NATTEN, with tensors [batch, tokens, heads, dim].

    Its merge has a backward pass through both attentions.
    """
    import natten

    query = q[None].contiguous()
    parts = [
        natten.attention(query, k[None].contiguous(), v[None].contiguous(), return_lse=True)
        for k, v in (latent_kv, text_kv)
    ]
    outputs, lses = zip(*parts, strict=True)
    return natten.merge_attentions(list(outputs), list(lses))[0][0]
