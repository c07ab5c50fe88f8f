"""Greedy answers to the questions of a pack, all dialogs at once (no cache: answers are a few tokens long)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.dialog import IGNORED

__all__ = ["speak"]


@torch.no_grad()
def speak(model: nn.Module, batch: ChatBatch, most: int, end: int) -> list[list[int]]:
    """Tokens said in each dialog's last turn, up to `end` or `most` of them.

    Every rank passes through the model `most` times, since sharded layers need every rank's hand.
    """
    said = torch.empty(len(batch.lengths), 0, dtype=torch.int64, device=batch.ids.device)
    for _ in range(most):
        asked = _asked(batch, said)
        last = torch.tensor(asked.lengths, device=batch.ids.device).cumsum(0) - 1
        following = _next_tokens(model, asked, last)
        said = torch.cat([said, following[:, None]], dim=1)
    return [row[: row.index(end)] if end in row else row for row in said.tolist()]


def _next_tokens(model: Any, batch: ChatBatch, places: torch.Tensor) -> torch.Tensor:
    return model(batch, places).argmax(-1)


def _asked(batch: ChatBatch, said: torch.Tensor) -> ChatBatch:
    """The pack cut to the questions, with what was said so far after each."""
    ids, positions, starts = [], [], []
    begin, count = 0, said.shape[1]
    steps = torch.arange(count, device=batch.ids.device)
    for length, asked, tokens in zip(batch.lengths, batch.asked, said, strict=True):
        part = slice(begin, begin + asked)
        ids += [batch.ids[part], tokens]
        after = batch.positions[:, part].max() + 1
        positions += [batch.positions[:, part], (after + steps).expand(3, -1)]
        starts.append(torch.arange(asked + count, device=batch.ids.device))
        begin += length
    whole = torch.cat(ids)
    return replace(
        batch,
        ids=whole,
        targets=torch.full_like(whole, IGNORED),
        positions=torch.cat(positions, dim=1),
        starts=torch.cat(starts),
        lengths=tuple(asked + count for asked in batch.asked),
    )
