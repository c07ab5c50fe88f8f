"""Clips as one image: rows of evenly spaced frames under their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from attrs import frozen
from PIL import Image, ImageDraw

__all__ = ["Row", "write_contact_sheet"]

COLUMNS = 5
TILE = 96
GAP = 4
LINE = 14
HEADER = 20


@frozen(eq=False)
class Row:
    """One caption and its clips, uint8 [3, T, H, W] each, one per block of columns."""

    caption: str
    clips: Sequence[torch.Tensor]


def write_contact_sheet(path: Path, titles: Sequence[str], rows: Sequence[Row]) -> None:
    """A PNG with one block of frames for each title, one row for each caption."""
    block = COLUMNS * (TILE + GAP) + 4 * GAP
    height = HEADER + len(rows) * (LINE + TILE + 3 * GAP)
    sheet = Image.new("RGB", (GAP + len(titles) * block, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, title in enumerate(titles):
        draw.text((GAP + number * block, GAP), title, fill="black")
    for index, row in enumerate(rows):
        top = HEADER + index * (LINE + TILE + 3 * GAP)
        draw.text((GAP, top), row.caption[: len(titles) * block // 7], fill="black")
        for number, clip in enumerate(row.clips):
            for column, tile in enumerate(_tiles(clip)):
                sheet.paste(tile, (GAP + number * block + column * (TILE + GAP), top + LINE))
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, format="PNG")
    partial.replace(path)


def _tiles(clip: torch.Tensor) -> list[Image.Image]:
    frames = clip.permute(1, 2, 3, 0).cpu().numpy()
    indices = np.linspace(0, len(frames) - 1, min(COLUMNS, len(frames))).round().astype(int)
    tiles = [Image.fromarray(frames[index]) for index in indices]
    scale = TILE / max(tiles[0].size)
    size = (max(1, round(tiles[0].width * scale)), max(1, round(tiles[0].height * scale)))
    return [tile.resize(size, Image.Resampling.BILINEAR) for tile in tiles]
