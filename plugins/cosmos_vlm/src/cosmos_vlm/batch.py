"""Conversations packed into one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch

from cosmos_core.data import Item
from cosmos_core.distributed import to_device
from cosmos_vlm.chat_processor import IGNORE_INDEX, TokenizedConversation
from cosmos_vlm.vision import frame_pairs

__all__ = ["ChatBatch", "collate"]


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """N tokens of several conversations.

    ids, targets: int64 [N]; a target is the *next* token where that is learned, else IGNORE_INDEX. target_indices:
    int64 [L], positions with a target. position_in_sequence: int64 [N], counted from 0 in each conversation.
    positions: int64 [3, N], time, row, column. visual_token_indices: int64 [V].

    patches: uint8 [R, 768], each of one frame. pairs: int64 [P, 2], which two of them the tower takes as one. grids:
    int64 [M, 3] of each image or video, always on the host. vision_seqlens: pairs of each image or frame pair.
    image_in_prompt: whether each of `grids` comes before the assistant's last message.

    lengths: tokens of each conversation. prompt_lens: those before the assistant's last message. keys: of the samples.
    references: text of that message.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    target_indices: torch.Tensor
    position_in_sequence: torch.Tensor
    positions: torch.Tensor
    visual_token_indices: torch.Tensor
    patches: torch.Tensor
    pairs: torch.Tensor
    grids: torch.Tensor
    vision_seqlens: tuple[int, ...]
    lengths: tuple[int, ...]
    prompt_lens: tuple[int, ...]
    image_in_prompt: tuple[bool, ...]
    keys: tuple[str, ...]
    references: tuple[str, ...]

    def to(self, device: torch.device) -> ChatBatch:
        """On `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "grids"}
        moved: dict[str, Any] = {
            name: to_device(value, device) for name, value in values.items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)


def collate(items: Sequence[Item]) -> ChatBatch:
    """One pack; attention does not cross from one conversation to the next, and positions start anew in each."""
    samples: list[TokenizedConversation] = [item.value for item in items]
    targets = torch.cat(
        [torch.cat([sample.labels[1:], sample.labels.new_tensor([IGNORE_INDEX])]) for sample in samples]
    )
    offsets = accumulate((len(sample.ids) for sample in samples), initial=0)
    grids = [grid for sample in samples for grid in sample.grids]
    return ChatBatch(
        ids=torch.cat([sample.ids for sample in samples]),
        targets=targets,
        target_indices=(targets != IGNORE_INDEX).nonzero()[:, 0],
        position_in_sequence=torch.cat([torch.arange(len(sample.ids)) for sample in samples]),
        positions=torch.cat([sample.positions for sample in samples], dim=1),
        visual_token_indices=torch.cat(
            [sample.visual_token_indices + offset for sample, offset in zip(samples, offsets, strict=False)]
        ),
        patches=torch.cat([sample.patches for sample in samples]),
        pairs=frame_pairs(grids, [count for sample in samples for count in sample.num_frames]),
        grids=torch.tensor(grids, dtype=torch.int64).view(-1, 3),
        vision_seqlens=tuple(rows * columns for count, rows, columns in grids for _ in range(count)),
        lengths=tuple(len(sample.ids) for sample in samples),
        prompt_lens=tuple(sample.prompt_len for sample in samples),
        image_in_prompt=tuple(
            number < sample.num_prompt_media for sample in samples for number in range(len(sample.grids))
        ),
        keys=tuple(sample.key for sample in samples),
        references=tuple(sample.reference for sample in samples),
    )
