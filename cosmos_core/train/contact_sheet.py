"""Frames as pictures, and some of them on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch

__all__ = ["contact_sheet", "picture_of", "thumbnails"]

GAP = 2
"""White pixels between pictures: frames of one clip are so alike that their edges do not show."""


def picture_of(frame: torch.Tensor) -> PIL.Image.Image:
    """A frame, uint8 [3, H, W]."""
    return PIL.Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())


def thumbnails(frames: Sequence[torch.Tensor], count: int, side: int) -> list[PIL.Image.Image]:
    """At most `count` of one or more frames, spread evenly, each within `side` pixels."""
    numbers = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    pictures = [picture_of(frames[number]) for number in numbers]
    for picture in pictures:
        picture.thumbnail((side, side))
    return pictures


def contact_sheet(frames: Sequence[torch.Tensor], count: int, columns: int, side: int) -> PIL.Image.Image:
    """`thumbnails` on one sheet."""
    pictures = thumbnails(frames, count, side)
    width, height = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
    width, height = width + GAP, height + GAP
    across, down = min(columns, len(pictures)), -(-len(pictures) // columns)
    sheet = PIL.Image.new("RGB", (width * across - GAP, height * down - GAP), "white")
    for cell, picture in enumerate(pictures):
        sheet.paste(picture, (cell % columns * width, cell // columns * height))
    return sheet
