"""Two attentions: text over text, causal; latents over text and latents, full.

Samples never see each other. Samples of equal lengths run as one batch, short ones of unequal lengths as one padded
batch. Long ones run one by one, without mask and padding: from Hopper on through cuDNN, which plans for each new pair
of lengths, and is nearly twice as fast from then on as a kernel for unequal lengths (tests/benchmarks/RESULTS.md).
"""

from __future__ import annotations

import torch

from cosmos_core.attention import dense_attention, packed_attention, sequence_attention
from cosmos_vfm.network.backend import KeysValues
from cosmos_vfm.network.sequences import JointSequences

__all__ = ["TwoWay"]


class TwoWay:
    """Backend `two_way`."""

    def __init__(self, sequences: JointSequences) -> None:
        self.text, self.latents = sequences.text, sequences.latents
        self.sequences = sequences

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal self-attention of each sample's text."""
        if self.sequences.one_batch:
            # Padding is on the right: with a causal mask, no real token attends to it.
            q, k, v = (self.text.pad(x) for x in (q, k, v))
            return self.text.unpad(dense_attention(q, k, v, is_causal=True))
        return packed_attention(q, k, v, self.text, causal=True)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """Full attention of latents over [text | latents] of their sample."""
        if self.sequences.one_batch:
            k, v = (
                torch.cat([self.text.pad(text), self.latents.pad(latents)], dim=2)
                for text, latents in zip(text_kv, latent_kv, strict=True)
            )
            out = dense_attention(self.latents.pad(q), k, v, attn_mask=self.sequences.key_mask)
            return self.latents.unpad(out)
        k, v = (self.sequences.join(*both) for both in zip(text_kv, latent_kv, strict=True))
        return sequence_attention(q, k, v, self.latents, self.sequences.joined)
