"""Greedy answers to the questions of a pack, all dialogs at once (no cache: answers are a few tokens long)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import torch
from torch import nn

from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.dialog import IGNORED

__all__ = ["speak"]


@torch.no_grad()
def speak(model: nn.Module, batch: ChatBatch, most: int, opening: Sequence[int], end: int) -> list[list[int]]:
    """Tokens said in each dialog's last turn, which begins with `opening`, up to `end` or `most` of them.

    Every rank passes through the model `most` times, since sharded layers need every rank's hand.
    """
    seen = _seen_before(batch)
    said = batch.ids.new_tensor(opening).expand(len(batch.lengths), -1)
    for _ in range(most):
        asked = _asked(seen, said)
        last = torch.tensor(asked.lengths, device=batch.ids.device).cumsum(0) - 1
        following = _next_tokens(model, asked, last)
        said = torch.cat([said, following[:, None]], dim=1)
    spoken = said[:, len(opening) :].tolist()
    return [row[: row.index(end)] if end in row else row for row in spoken]


def _next_tokens(model: Any, batch: ChatBatch, places: torch.Tensor) -> torch.Tensor:
    return model(batch, places).argmax(-1)


def _seen_before(batch: ChatBatch) -> ChatBatch:
    """The pack without the pictures and clips that are shown after the questions."""
    if all(batch.shown):
        return batch
    rows = torch.tensor(batch.shown)
    slices = batch.grids[:, 0].tolist()
    each = [shown for shown, count in zip(batch.shown, slices, strict=True) for _ in range(count)]
    return replace(
        batch,
        patches=batch.patches[rows.repeat_interleave(batch.grids.prod(1)).to(batch.patches.device)],
        grids=batch.grids[rows],
        frames=tuple(compress(batch.frames, each)),
        shown=(True,) * sum(batch.shown),
    )


def _asked(batch: ChatBatch, said: torch.Tensor) -> ChatBatch:
    """The pack cut to the questions, with what was said so far after each."""
    ids, positions, starts, seen = [], [], [], []
    vision = torch.zeros_like(batch.ids).index_fill(0, batch.seen, 1)
    begin, count = 0, said.shape[1]
    steps = torch.arange(count, device=batch.ids.device)
    for length, asked, tokens in zip(batch.lengths, batch.asked, said, strict=True):
        part = slice(begin, begin + asked)
        ids += [batch.ids[part], tokens]
        # The turn that is cut off begins with a token of text, whose three positions are one.
        positions += [batch.positions[:, part], batch.positions[:, begin + asked, None] + steps]
        starts.append(torch.arange(asked + count, device=batch.ids.device))
        seen += [vision[part], torch.zeros_like(tokens)]
        begin += length
    whole = torch.cat(ids)
    return replace(
        batch,
        ids=whole,
        targets=torch.full_like(whole, IGNORED),
        positions=torch.cat(positions, dim=1),
        starts=torch.cat(starts),
        seen=torch.cat(seen).nonzero()[:, 0],
        lengths=tuple(asked + count for asked in batch.asked),
    )
