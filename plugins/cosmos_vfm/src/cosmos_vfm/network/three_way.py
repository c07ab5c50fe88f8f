"""Latents over text and latents over latents as two attentions, merged by log-sum-exp.

See docs/models/generator.md, Attention implementations.

Equal to one attention over both; it exists so that the second one may become sparse.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from cosmos_core.attention import attention_with_lse, merge_attentions
from cosmos_vfm.network.backend import KeysValues
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.network.two_way import TwoWay

__all__ = ["ThreeWay", "uses_natten"]


class ThreeWay(TwoWay):
    """The backend over one pack; text as in two_way."""

    def __init__(self, sequences: JointSequences) -> None:
        super().__init__(sequences)
        self._both = _natten if uses_natten(self.latents.device) else _merged

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """Sample by sample."""
        parts = [self._both(*sample) for sample in self.sequences.samples(q, text_kv, latent_kv)]
        return torch.cat(parts)


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
    return merge_attentions(attention_with_lse(q, *latent_kv), attention_with_lse(q, *text_kv))


def _natten(q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
    """The same through the package: [batch, tokens, heads, dim] there, and its own merging, whose backward pass knows
    of both attentions."""
    import natten

    query = q[None].contiguous()
    parts = [
        natten.attention(query, k[None].contiguous(), v[None].contiguous(), return_lse=True)
        for k, v in (latent_kv, text_kv)
    ]
    outputs, lses = zip(*parts, strict=True)
    return natten.merge_attentions(list(outputs), list(lses))[0][0]
