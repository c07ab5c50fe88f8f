"""Boundaries of the packed sequences in both towers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cosmos_core.attention import PackedSequences
from cosmos_vfm.network.backend import KeysValues

__all__ = ["JointSequences"]


@dataclass(frozen=True)
class JointSequences:
    """Packed-sequence metadata of text and latents, built once per batch and used by every layer."""

    text: PackedSequences
    latents: PackedSequences

    @classmethod
    def of(cls, text: Sequence[int], latents: Sequence[int]) -> JointSequences:
        """From the number of tokens per sample in each tower."""
        return cls(PackedSequences(tuple(text)), PackedSequences(tuple(latents)))

    def to(self, device: torch.device) -> JointSequences:
        """With index tensors on `device`."""
        return JointSequences(self.text.to(device), self.latents.to(device))

    @cached_property
    def joined(self) -> PackedSequences:
        """Of each sample's text and latents together, as of `join`."""
        lengths = tuple(map(sum, zip(self.text.lengths, self.latents.lengths, strict=True)))
        return PackedSequences(lengths, self.latents.device)

    def join(self, text: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """[Nu, ...] and [Ng, ...] -> [Nu + Ng, ...], the latents of each sample behind its text."""
        pairs = zip(self.text.split(text), self.latents.split(latents), strict=True)
        return torch.cat([part for pair in pairs for part in pair])

    def samples(
        self, q: torch.Tensor, text_kv: KeysValues, latent_kv: KeysValues
    ) -> Iterator[tuple[torch.Tensor, KeysValues, KeysValues]]:
        """For each sample: queries of latents, keys and values of text, keys and values of latents."""
        text = zip(*(self.text.split(x) for x in text_kv), strict=True)
        latents = zip(*(self.latents.split(x) for x in (q, *latent_kv)), strict=True)
        for (text_k, text_v), (query, k, v) in zip(text, latents, strict=True):
            yield query, (text_k, text_v), (k, v)
