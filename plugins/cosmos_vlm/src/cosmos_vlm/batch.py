"""Dialogs packed into one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch

from cosmos_core.data import Item
from cosmos_core.distributed import transferred
from cosmos_vlm.dialog import IGNORED, Dialog

__all__ = ["ChatBatch", "collate"]


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """ids, targets: int64 [N]; targets hold the *next* token where it is learned. learned: int64 [L], where that is.
    starts: int64 [N], place in the dialog, 0 where a new one begins. positions: int64 [3, N]. seen: int64 [V], tokens
    that stand for vision. patches: uint8 [P, 1536]. grids: int64 [M, 3], always on the host. frames: patches of each
    picture or pair of frames. lengths: tokens of each dialog. asked: tokens of each dialog before the assistant's last
    turn. shown: whether each of `grids` stands before that turn of its dialog. keys, wanted: name, and what the
    assistant says there.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    learned: torch.Tensor
    starts: torch.Tensor
    positions: torch.Tensor
    seen: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor
    frames: tuple[int, ...]
    lengths: tuple[int, ...]
    asked: tuple[int, ...]
    shown: tuple[bool, ...]
    keys: tuple[str, ...]
    wanted: tuple[str, ...]

    def to(self, device: torch.device) -> ChatBatch:
        """On `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "grids"}
        moved: dict[str, Any] = {
            name: transferred(value, device) for name, value in values.items() if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)


def collate(items: Sequence[Item]) -> ChatBatch:
    """One pack; attention never crosses from one dialog to the next, positions start anew in each."""
    dialogs: list[Dialog] = [item.value for item in items]
    following = torch.cat([torch.cat([dialog.labels[1:], dialog.labels.new_tensor([IGNORED])]) for dialog in dialogs])
    starts = accumulate((len(dialog.ids) for dialog in dialogs), initial=0)
    grids = [grid for dialog in dialogs for grid in dialog.grids]
    return ChatBatch(
        ids=torch.cat([dialog.ids for dialog in dialogs]),
        targets=following,
        learned=(following != IGNORED).nonzero()[:, 0],
        starts=torch.cat([torch.arange(len(dialog.ids)) for dialog in dialogs]),
        positions=torch.cat([dialog.positions for dialog in dialogs], dim=1),
        seen=torch.cat([dialog.seen + start for dialog, start in zip(dialogs, starts, strict=False)]),
        patches=torch.cat([dialog.patches for dialog in dialogs]),
        grids=torch.tensor(grids, dtype=torch.int64).view(-1, 3),
        frames=tuple(rows * columns for count, rows, columns in grids for _ in range(count)),
        lengths=tuple(len(dialog.ids) for dialog in dialogs),
        asked=tuple(dialog.asked for dialog in dialogs),
        shown=tuple(number < dialog.shown for dialog in dialogs for number in range(len(dialog.grids))),
        keys=tuple(dialog.key for dialog in dialogs),
        wanted=tuple(dialog.answer for dialog in dialogs),
    )
