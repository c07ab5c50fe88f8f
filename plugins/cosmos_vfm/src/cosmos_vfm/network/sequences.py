"""How the tokens of a pack divide into samples, in both towers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cosmos_core.attention import PackedSequences
from cosmos_vfm.network.backend import KeysValues

__all__ = ["JointSequences"]

SHORT = 512
"""Longest sample, in tokens, that is padded into a batch."""


@dataclass(frozen=True)
class JointSequences:
    """The samples' texts and latents, built once a batch, used by every layer."""

    text: PackedSequences
    latents: PackedSequences

    @classmethod
    def of(cls, text: Sequence[int], latents: Sequence[int]) -> JointSequences:
        """From tokens a sample in each tower."""
        return cls(PackedSequences(tuple(text)), PackedSequences(tuple(latents)))

    def to(self, device: torch.device) -> JointSequences:
        """With index tensors on `device`."""
        return JointSequences(self.text.to(device), self.latents.to(device))

    @property
    def uniform(self) -> bool:
        """Whether all samples are of the same lengths."""
        return self.text.uniform and self.latents.uniform

    @property
    def one_batch(self) -> bool:
        """Whether the samples run as one batch: those of equal lengths do, and short ones, since launching a kernel for
        each would cost more than the padding."""
        return self.uniform or self.text.max_seqlen + self.latents.max_seqlen <= SHORT

    @cached_property
    def key_mask(self) -> torch.Tensor | None:
        """[samples, 1, 1, longest text + longest latents], True where that batch holds a key; None without padding."""
        if self.uniform:
            return None
        return torch.cat([self.text.padding_mask, self.latents.padding_mask], dim=1)[:, None, None]

    def samples(
        self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues
    ) -> Iterator[tuple[torch.Tensor, KeysValues, KeysValues]]:
        """Latents' queries, keys and values of text, and of latents, of each sample."""
        text = zip(*(self.text.split(x) for x in text_kv), strict=True)
        latents = zip(*(self.latents.split(x) for x in (q, *latent_kv)), strict=True)
        for (text_k, text_v), (query, k, v) in zip(text, latents, strict=True):
            yield query, (text_k, text_v), (k, v)
