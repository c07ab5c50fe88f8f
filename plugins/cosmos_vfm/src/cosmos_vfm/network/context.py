"""One pack split over the processes of a context group: each keeps a run of the tokens of both streams."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cosmos_core.distributed import ContextGroup
from cosmos_vfm.network.backend import AttentionBackend, KeysValues
from cosmos_vfm.network.pack import Pack

__all__ = ["ContextParallelAttention", "split_pack"]


def split_pack(
    context: ContextGroup, tokens: torch.Tensor, pack: Pack, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, Pack]:
    """This process's latent tokens, all noise levels, and its part of the pack; padding belongs to sample 0."""
    part = replace(
        pack,
        text_ids=context.own(pack.text_ids),
        text_positions=context.own(pack.text_positions, dim=1),
        latent_positions=context.own(pack.latent_positions, dim=1),
        sample_of_latent=context.own(pack.sample_of_latent),
        noisy=context.own(pack.noisy),
    )
    return context.own(tokens), sigma, part


@dataclass(frozen=True, slots=True)
class ContextParallelAttention:
    """Any backend, over processes that split the pack. text, latents: tokens of the whole pack in each stream."""

    inner: AttentionBackend
    context: ContextGroup
    text: int
    latents: int

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """As the inner backend."""
        parts = (self.context.to_heads(x, self.text) for x in (q, k, v))
        return self.context.to_tokens(self.inner.attend_text(*parts))

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """As the inner backend."""
        text_k, text_v = (self.context.to_heads(x, self.text) for x in text_kv)
        queries, k, v = (self.context.to_heads(x, self.latents) for x in (q, *latent_kv))
        return self.context.to_tokens(self.inner.attend_latents(queries, (text_k, text_v), (k, v)))
