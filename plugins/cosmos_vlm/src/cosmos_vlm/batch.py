"""Dialogs packed into one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from cosmos_core.data import Item
from cosmos_vlm.dialog import IGNORED, Dialog

__all__ = ["ChatBatch", "collate"]


@dataclass(frozen=True, slots=True)
class ChatBatch:
    """ids, targets: int64 [N]; targets hold the *next* token where it is learned. starts: int64 [N], place in the
    dialog, 0 where a new one begins. positions: int64 [3, N]. patches: [P, 1536]. grids: int64 [M, 3].
    """

    ids: torch.Tensor
    targets: torch.Tensor
    starts: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: torch.Tensor

    def to(self, device: torch.device) -> ChatBatch:
        """On `device`."""
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def collate(items: Sequence[Item]) -> ChatBatch:
    """One pack; attention never crosses from one dialog to the next, positions start anew in each."""
    dialogs: list[Dialog] = [item.value for item in items]
    targets = []
    for dialog in dialogs:
        following = torch.full_like(dialog.labels, IGNORED)
        following[:-1] = dialog.labels[1:]
        targets.append(following)
    return ChatBatch(
        ids=torch.cat([dialog.ids for dialog in dialogs]),
        targets=torch.cat(targets),
        starts=torch.cat([torch.arange(len(dialog.ids)) for dialog in dialogs]),
        positions=torch.cat([dialog.positions for dialog in dialogs], dim=1),
        patches=torch.cat([dialog.patches for dialog in dialogs]),
        grids=torch.tensor([grid for dialog in dialogs for grid in dialog.grids], dtype=torch.int64).view(-1, 3),
    )
