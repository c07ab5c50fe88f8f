"""Attention over packed samples: text causal over itself, latents full over their own text and latents.

Samples never see each other. Samples of equal lengths run as one batch. Short ones of unequal lengths run as one padded
batch, since launching a kernel for each would cost more than the padding; long ones run one by one, without mask and
without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cosmos_core.distributed import Ragged, attention, has_ragged_attention, ragged_attention, transferred

__all__ = ["Segments"]

SHORT = 512
"""Longest sample, in tokens, that is padded into a batch."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One tower's tokens. rows: where each token lies in the padded [samples * longest] layout; None if dense."""

    lengths: tuple[int, ...]
    rows: torch.Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Stream:
        longest = max(lengths)
        if all(length == longest for length in lengths):
            return cls(tuple(lengths), None)
        starts = [torch.arange(length) + sample * longest for sample, length in enumerate(lengths)]
        return cls(tuple(lengths), torch.cat(starts))

    def to(self, device: torch.device) -> Stream:
        return self if self.rows is None else replace(self, rows=transferred(self.rows, device))

    def batch(self, x: torch.Tensor) -> torch.Tensor:
        """[N, heads, dim] -> [samples, heads, longest, dim], zeros in the padding."""
        count, longest = len(self.lengths), max(self.lengths)
        if self.rows is not None:
            x = x.new_zeros(count * longest, *x.shape[1:]).index_copy(0, self.rows, x)
        return x.view(count, longest, *x.shape[1:]).transpose(1, 2)

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `batch`, with heads and dim joined: [N, heads * dim]."""
        x = x.transpose(1, 2).flatten(2).flatten(0, 1)
        return x if self.rows is None else x.index_select(0, self.rows)


@dataclass(frozen=True, slots=True)
class Segments:
    """How the tokens of a pack divide into samples; built once a batch, used by every layer.

    padded: whether the samples run as one batch. mask: [samples, 1, 1, longest text + longest latents], True where
    that batch holds a real key; None when nothing is padded, or when samples run one by one. ragged: where the texts of
    these begin.
    """

    text: Stream
    latents: Stream
    padded: bool
    mask: torch.Tensor | None
    ragged: Ragged | None

    @classmethod
    def of(cls, text: Sequence[int], latents: Sequence[int]) -> Segments:
        """From tokens a sample in each tower."""
        streams = Stream.of(text), Stream.of(latents)
        dense = all(stream.rows is None for stream in streams)
        padded = dense or max(text) + max(latents) <= SHORT
        mask = None
        if padded and not dense:
            parts = [torch.arange(max(lengths)) < torch.tensor(lengths)[:, None] for lengths in (text, latents)]
            mask = torch.cat(parts, dim=1)[:, None, None]
        return cls(*streams, padded, mask, None if padded else Ragged.of(text))

    def to(self, device: torch.device) -> Segments:
        """With its index tensors on `device`."""
        mask = None if self.mask is None else transferred(self.mask, device)
        ragged = None if self.ragged is None else self.ragged.to(device)
        return replace(self, text=self.text.to(device), latents=self.latents.to(device), mask=mask, ragged=ragged)

    def attend_text(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Causal self-attention of text. q: [N, heads, dim]; k, v: [N, kv heads, dim]. Returns [N, heads * dim]."""
        if self.padded:
            # Padding lies to the right, where causal attention never looks from a real token.
            q, k, v = (self.text.batch(x) for x in (q, k, v))
            return self.text.flat(attention(q, k, v, is_causal=True))
        if self.ragged is not None and has_ragged_attention(q):
            return ragged_attention(q, k, v, self.ragged, causal=True).flatten(1)
        parts = zip(*(x.split(self.text.lengths) for x in (q, k, v)), strict=True)
        return torch.cat([_one(*part, causal=True) for part in parts])

    def attend_latents(
        self,
        q: torch.Tensor,
        text_kv: tuple[torch.Tensor, torch.Tensor],
        latent_kv: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Full attention of latents over [text | latents] of their sample; shapes as in `attend_text`."""
        if self.padded:
            k, v = (
                torch.cat([self.text.batch(text), self.latents.batch(own)], dim=2)
                for text, own in zip(text_kv, latent_kv, strict=True)
            )
            out = attention(self.latents.batch(q), k, v, attn_mask=self.mask)
            return self.latents.flat(out)
        text = zip(*(x.split(self.text.lengths) for x in text_kv), strict=True)
        own = zip(*(x.split(self.latents.lengths) for x in (q, *latent_kv)), strict=True)
        return torch.cat(
            [
                _one(query, torch.cat([text_k, k]), torch.cat([text_v, v]), causal=False)
                for (text_k, text_v), (query, k, v) in zip(text, own, strict=True)
            ]
        )


def _one(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool) -> torch.Tensor:
    q, k, v = (x.transpose(0, 1).unsqueeze(0) for x in (q, k, v))
    out = attention(q, k, v, is_causal=causal)
    return out.squeeze(0).transpose(0, 1).flatten(1)
