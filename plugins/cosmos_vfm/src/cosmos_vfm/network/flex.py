"""All latents over all text and latents of the pack at once, under a mask that keeps samples apart."""

from __future__ import annotations

import torch

from cosmos_core.attention import SequenceMask
from cosmos_vfm.network.backend import KeysValues
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.network.two_way import TwoWay

__all__ = ["Flex"]


class Flex(TwoWay):
    """The backend over one pack; text as in two_way."""

    def __init__(self, sequences: JointSequences, *, flex: bool | None = None) -> None:
        """flex: whether FlexAttention does it; where it can be trained through, when absent."""
        super().__init__(sequences)
        queries = self.latents.sequence_ids
        self._mask = SequenceMask(queries, torch.cat([self.text.sequence_ids, queries]), flex=flex)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """One call for the whole pack."""
        k, v = (torch.cat(pair) for pair in zip(text_kv, latent_kv, strict=True))
        return self._mask.attend(q, k, v)
