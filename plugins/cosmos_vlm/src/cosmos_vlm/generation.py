"""Greedy answers to all prompts of a pack at once. There is no key-value cache: answers are a few tokens long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import torch
from torch import nn

from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.chat_processor import IGNORE_INDEX

__all__ = ["generate"]


@torch.no_grad()
def generate(
    model: nn.Module, batch: ChatBatch, *, max_new_tokens: int, prompt: Sequence[int], eos_token_id: int
) -> list[list[int]]:
    """At most `max_new_tokens` tokens for each conversation, without `eos_token_id` and what follows it.

    prompt: tokens that begin the assistant's message. FSDP forward is a collective, so every rank runs the model
    `max_new_tokens` times.
    """
    batch = _without_later_media(batch)
    tokens = batch.ids.new_tensor(prompt).expand(len(batch.lengths), -1)
    for _ in range(max_new_tokens):
        prompts = _prompts(batch, tokens)
        last = torch.tensor(prompts.lengths, device=batch.ids.device).cumsum(0) - 1
        tokens = torch.cat([tokens, _next_tokens(model, prompts, last)[:, None]], dim=1)
    generated = tokens[:, len(prompt) :].tolist()
    return [row[: row.index(eos_token_id)] if eos_token_id in row else row for row in generated]


def _next_tokens(model: Any, batch: ChatBatch, indices: torch.Tensor) -> torch.Tensor:
    return model(batch, indices).argmax(-1)


def _without_later_media(batch: ChatBatch) -> ChatBatch:
    """The pack without the images and videos that come after the prompts."""
    if all(batch.image_in_prompt):
        return batch
    rows = torch.tensor(batch.image_in_prompt)
    counts = batch.grids[:, 0].tolist()
    vision_in_prompt = [
        in_prompt for in_prompt, count in zip(batch.image_in_prompt, counts, strict=True) for _ in range(count)
    ]
    return replace(
        batch,
        pairs=batch.pairs[rows.repeat_interleave(batch.grids.prod(1)).to(batch.pairs.device)],
        grids=batch.grids[rows],
        vision_seqlens=tuple(compress(batch.vision_seqlens, vision_in_prompt)),
        image_in_prompt=(True,) * sum(batch.image_in_prompt),
    )


def _prompts(batch: ChatBatch, tokens: torch.Tensor) -> ChatBatch:
    """The pack cut to the prompts, each followed by its row of `tokens`."""
    ids, positions, position_in_sequence, is_visual = [], [], [], []
    visual = torch.zeros_like(batch.ids).index_fill(0, batch.visual_token_indices, 1)
    begin, count = 0, tokens.shape[1]
    steps = torch.arange(count, device=batch.ids.device)
    for length, prompt_len, row in zip(batch.lengths, batch.prompt_lens, tokens, strict=True):
        part = slice(begin, begin + prompt_len)
        ids += [batch.ids[part], row]
        # The message that is cut off begins with a text token, whose three positions are equal.
        positions += [batch.positions[:, part], batch.positions[:, begin + prompt_len, None] + steps]
        position_in_sequence.append(torch.arange(prompt_len + count, device=batch.ids.device))
        is_visual += [visual[part], torch.zeros_like(row)]
        begin += length
    packed = torch.cat(ids)
    return replace(
        batch,
        ids=packed,
        targets=torch.full_like(packed, IGNORE_INDEX),
        positions=torch.cat(positions, dim=1),
        position_in_sequence=torch.cat(position_in_sequence),
        visual_token_indices=torch.cat(is_visual).nonzero()[:, 0],
        lengths=tuple(prompt_len + count for prompt_len in batch.prompt_lens),
    )
