"""One attention call for all latents of the micro-batch, with a mask that separates samples."""

from __future__ import annotations

import torch

from cosmos_core.attention import SequenceMask
from cosmos_vfm.network.backend import KeysValues
from cosmos_vfm.network.sequences import JointSequences
from cosmos_vfm.network.two_way import TwoWay

__all__ = ["Flex"]


class Flex(TwoWay):
    """Backend `flex`. Text attends as in two_way."""

    def __init__(self, sequences: JointSequences, *, flex: bool | None = None) -> None:
        """flex: whether to use FlexAttention; None: where its backward pass works."""
        super().__init__(sequences)
        queries = self.latents.sequence_ids
        self._mask = SequenceMask(queries, torch.cat([self.text.sequence_ids, queries]), flex=flex)

    def attend_latents(self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues) -> torch.Tensor:
        """One call for all samples."""
        k, v = (torch.cat(pair) for pair in zip(text_kv, latent_kv, strict=True))
        return self._mask.attend(q, k, v)
