"""Sequences packed one after another: where each begins, and the same tokens as padded batches.

A kernel for unequal lengths reads a pack as it is, by `cu_seqlens`. Other kernels take batches: all sequences padded to
the longest, or those of like lengths together. Sequences of one length are a batch already, without any copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from cosmos_core.distributed.to_device import to_device

__all__ = ["PackedSequences", "PaddedBatches", "bucket"]

CPU = torch.device("cpu")
STEP = 8
"""Buckets are an eighth of the power of two above a length apart: a tenth of padding on average, at most a quarter."""
MIN_BUCKET = 8
"""Tokens of the shortest bucket."""


@dataclass(frozen=True)
class PaddedBatches:
    """Packed sequences as batches, each of one width. widths: tokens of each sequence with its padding.

    Padding lies to the right, where causal attention never looks from a real token.
    """

    lengths: tuple[int, ...]
    widths: tuple[int, ...]
    device: torch.device

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(sequences, width) of each batch."""
        return tuple((self.widths.count(width), width) for width in sorted(set(self.widths)))

    @cached_property
    def rows(self) -> torch.Tensor | None:
        """int64 [N], where each token lies in the batches one after another; None when these are the pack as it is."""
        if len(set(self.lengths)) == 1:
            return None
        free, used = {}, 0
        for count, width in self.sizes:
            free[width], used = used, used + count * width
        starts = []
        for width in self.widths:
            starts.append(free[width])
            free[width] += width
        lengths = torch.tensor(self.lengths)
        places = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
        return to_device(torch.tensor(starts).repeat_interleave(lengths) + places, self.device)

    def pad(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[N, heads, dim] -> [sequences, heads, width, dim] of each batch, zeros in the padding."""
        tokens = [count * width for count, width in self.sizes]
        if self.rows is not None:
            x = x.new_zeros(sum(tokens), *x.shape[1:]).index_copy(0, self.rows, x)
        # The backward pass of a split copies, even when there is one part.
        parts = x.split(tokens) if len(tokens) > 1 else (x,)
        return [part.unflatten(0, size).transpose(1, 2) for part, size in zip(parts, self.sizes, strict=True)]

    def unpad(self, batches: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inverse of `pad`."""
        flat = [batch.transpose(1, 2).flatten(0, 1) for batch in batches]
        x = torch.cat(flat) if len(flat) > 1 else flat[0]
        return x if self.rows is None else x.index_select(0, self.rows)


@dataclass(frozen=True)
class PackedSequences:
    """How the tokens of a pack divide into sequences, in its order; built once a batch, used by every layer.

    lengths: tokens of each, on the host. Index tensors are made on the host at their first use, so that a device is
    never waited for, and kept on `device`.
    """

    lengths: tuple[int, ...]
    device: torch.device = CPU

    def to(self, device: torch.device) -> PackedSequences:
        """With index tensors on `device`."""
        return replace(self, device=device)

    @property
    def max_seqlen(self) -> int:
        """Tokens of the longest."""
        return max(self.lengths)

    @property
    def uniform(self) -> bool:
        """Whether all are of one length."""
        return len(set(self.lengths)) == 1

    @cached_property
    def cu_seqlens(self) -> torch.Tensor:
        """int32 [sequences + 1], where each begins, and where the last ends."""
        return to_device(torch.tensor([0, *self.lengths]).cumsum(0).to(torch.int32), self.device)

    @cached_property
    def seqlens(self) -> torch.Tensor:
        """int32 [sequences], tokens of each."""
        return to_device(torch.tensor(self.lengths, dtype=torch.int32), self.device)

    @cached_property
    def filled(self) -> PackedSequences:
        """With empty sequences behind, up to a rounded number of sequences."""
        count = len(self.lengths)
        return replace(self, lengths=(*self.lengths, *(0,) * (bucket(count) - count)))

    @cached_property
    def sequence_ids(self) -> torch.Tensor:
        """int64 [N], which sequence each token belongs to."""
        numbers = torch.arange(len(self.lengths))
        return to_device(torch.repeat_interleave(numbers, torch.tensor(self.lengths)), self.device)

    @cached_property
    def padding_mask(self) -> torch.Tensor:
        """Bool [sequences, max_seqlen], True where what `pad` returns holds a token."""
        return to_device(torch.arange(self.max_seqlen) < torch.tensor(self.lengths)[:, None], self.device)

    @cached_property
    def one_batch(self) -> PaddedBatches:
        """All in one batch, padded to the longest."""
        return PaddedBatches(self.lengths, (self.max_seqlen,) * len(self.lengths), self.device)

    @cached_property
    def buckets(self) -> PaddedBatches:
        """Those of like lengths in one batch, with a little padding."""
        widths = self.lengths if self.uniform else tuple(bucket(length) for length in self.lengths)
        return PaddedBatches(self.lengths, widths, self.device)

    @cached_property
    def by_length(self) -> PaddedBatches:
        """Those of equal lengths in one batch, without padding."""
        return PaddedBatches(self.lengths, self.lengths, self.device)

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """[N, heads, dim] -> [sequences, heads, max_seqlen, dim], zeros in the padding."""
        return self.one_batch.pad(x)[0]

    def unpad(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `pad`."""
        return self.one_batch.unpad([x])

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[N, ...] -> the tokens of each."""
        return x.split(self.lengths)


def bucket(length: int) -> int:
    """Rounded up, so that few numbers are left."""
    step = max(MIN_BUCKET, (1 << (length - 1).bit_length()) // STEP)
    return -(-length // step) * step
