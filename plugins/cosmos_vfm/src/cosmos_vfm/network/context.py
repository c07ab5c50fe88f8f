"""Context parallelism: each process of a context group holds a contiguous part of the text and latent tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from cosmos_core.distributed import ContextGroup
from cosmos_vfm.network.backend import AttentionBackend, KeysValues
from cosmos_vfm.network.packed_inputs import PackedInputs

__all__ = ["ContextParallelAttention", "split_inputs"]


def split_inputs(
    context: ContextGroup, tokens: torch.Tensor, inputs: PackedInputs, sigma: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, PackedInputs]:
    """This process's latent tokens, all sigmas, and its part of the inputs. Padding counts as sample 0."""
    part = replace(
        inputs,
        text_ids=context.own(inputs.text_ids),
        text_positions=context.own(inputs.text_positions, dim=1),
        latent_positions=context.own(inputs.latent_positions, dim=1),
        sample_of_latent=context.own(inputs.sample_of_latent),
        noise_mask=context.own(inputs.noise_mask),
    )
    return context.own(tokens), sigma, part


@dataclass(frozen=True, slots=True)
class ContextParallelAttention:
    """Runs another backend over split sequences. text, latents: number of tokens over all processes."""

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
