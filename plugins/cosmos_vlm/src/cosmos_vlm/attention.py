"""The `cosmos` attention of the reasoner: every stretch of a pack on its own, without a mask over the square.

A stretch is a dialog of the language model, or a picture of the tower. Stretches of one length run as one batch, others
in one kernel that knows where each begins. Where there is no such kernel, dialogs of like lengths run as one batch too:
padding lies to the right, where causal attention never looks from a real token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from cosmos_core.distributed import Ragged, fastest_attention, has_ragged_attention, ragged_attention, transferred

__all__ = ["COSMOS", "Stretches", "packed_attention", "register"]

COSMOS = "cosmos_packed"
STEP = 8
"""Dialogs are padded to an eighth of the power of two above their length: by a tenth on average, at most a quarter."""
SMALLEST = 8
"""Tokens that the shortest are padded to."""


@cache
def register() -> str:
    """Make transformers build no mask under this name; returns it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(COSMOS, _refused)
    AttentionMaskInterface.register(COSMOS, _no_mask)
    return COSMOS


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Stretches are kept apart by their lengths."""


def _refused(*arguments: Any, **options: Any) -> None:
    raise AssertionError("blocks with packed attention do not call the library's attention")


@dataclass(frozen=True)
class Stretches:
    """How the tokens of a pack divide into stretches, in its order; built once a step, used by every layer."""

    lengths: tuple[int, ...]
    causal: bool
    device: torch.device

    @property
    def alike(self) -> bool:
        """Whether all are of one length."""
        return len(set(self.lengths)) == 1

    @cached_property
    def ragged(self) -> Ragged:
        """Where each begins."""
        return Ragged.of(self.lengths).to(self.device)

    @cached_property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """(stretches, tokens of each with padding) of each batch."""
        return tuple((self._wide.count(width), width) for width in sorted(set(self._wide)))

    @cached_property
    def rows(self) -> torch.Tensor | None:
        """int64 [N], where each token lies in the batches one after another; None when they are the pack as it is."""
        if self.alike:
            return None
        free, used = {}, 0
        for count, width in self.batches:
            free[width], used = used, used + count * width
        starts = []
        for width in self._wide:
            starts.append(free[width])
            free[width] += width
        sizes = torch.tensor(self.lengths)
        places = torch.arange(int(sizes.sum())) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        return transferred(torch.tensor(starts).repeat_interleave(sizes) + places, self.device)

    @cached_property
    def _wide(self) -> tuple[int, ...]:
        padded = self.causal and not self.alike
        return tuple(_rounded(length) for length in self.lengths) if padded else self.lengths

    def apart(self, x: torch.Tensor) -> list[torch.Tensor]:
        """[N, heads, dim] -> [stretches, heads, tokens, dim] of each batch, zeros in the padding."""
        sizes = [count * width for count, width in self.batches]
        if self.rows is not None:
            x = x.new_zeros(sum(sizes), *x.shape[1:]).index_copy(0, self.rows, x)
        parts = zip(x.split(sizes), self.batches, strict=True)
        return [part.unflatten(0, batch).transpose(1, 2) for part, batch in parts]

    def together(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The inverse of `apart`."""
        flat = [part.transpose(1, 2).flatten(0, 1) for part in parts]
        x = torch.cat(flat) if len(flat) > 1 else flat[0]
        return x if self.rows is None else x.index_select(0, self.rows)


def packed_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, stretches: Stretches) -> torch.Tensor:
    """q [N, heads, dim], k and v [N, kv heads, dim]; returns [N, heads, dim]. No stretch looks into another."""
    # A single dialog is of a new length nearly every time; many of one length are so by design.
    returns = stretches.alike and len(stretches.lengths) > 1
    if not returns and has_ragged_attention(q):
        return ragged_attention(q, k, v, stretches.ragged, causal=stretches.causal)
    grouped = q.shape[1] != k.shape[1]
    batches = zip(*(stretches.apart(x) for x in (q, k, v)), strict=True)
    with fastest_attention(q.device, shapes_return=returns):
        mixed = [
            scaled_dot_product_attention(*batch, is_causal=stretches.causal, enable_gqa=grouped)  # type: ignore[misc]
            for batch in batches
        ]
    return stretches.together(mixed)


def _rounded(length: int) -> int:
    step = max(SMALLEST, (1 << (length - 1).bit_length()) // STEP)
    return -(-length // step) * step
