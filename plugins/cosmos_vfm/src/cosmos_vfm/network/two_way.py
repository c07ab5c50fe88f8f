"""Two attentions: text over text, causal; latents over text and latents, full. Samples never see each other."""

from __future__ import annotations

import torch

from cosmos_core.attention import packed_attention
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
        return packed_attention(q, k, v, self.text, causal=True)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """Full attention of latents over [text | latents] of their sample."""
        k, v = (self.sequences.join(*both) for both in zip(text_kv, latent_kv, strict=True))
        return packed_attention(q, k, v, self.latents, keys=self.sequences.joined, causal=False)
