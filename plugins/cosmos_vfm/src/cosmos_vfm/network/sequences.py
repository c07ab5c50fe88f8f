"""Boundaries of the packed sequences in both towers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from cosmos_core.attention import PackedSequences
from cosmos_vfm.network.backend import KeysValues

__all__ = ["JointSequences"]

SHORT = 512
"""Most tokens of a sample that is padded into a batch."""


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

    @property
    def uniform(self) -> bool:
        """Whether all samples have the same lengths."""
        return self.text.uniform and self.latents.uniform

    @property
    def one_batch(self) -> bool:
        """Whether the samples run as one batch.

        They do when they have equal lengths, or when padding costs less than one kernel launch per sample.
        """
        return self.uniform or self.text.max_seqlen + self.latents.max_seqlen <= SHORT

    @cached_property
    def key_mask(self) -> torch.Tensor | None:
        """[samples, 1, 1, longest text + longest latents], True at keys, False at padding; None without padding."""
        if self.uniform:
            return None
        return torch.cat([self.text.padding_mask, self.latents.padding_mask], dim=1)[:, None, None]

    @cached_property
    def joined(self) -> PackedSequences:
        """Of each sample's text and latents together, as of `join`."""
        return PackedSequences(tuple(map(sum, zip(self.text.lengths, self.latents.lengths, strict=True))))

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
