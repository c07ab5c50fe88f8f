"""Clips as one image: rows of evenly spaced frames under their captions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from attrs import frozen
from PIL import Image, ImageDraw, ImageFont

__all__ = ["COLUMNS", "Row", "font_for", "wrapped", "write_contact_sheet"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

COLUMNS = 5
TILE = 96
GAP = 4
LINE = 15
MAX_LINES = 4
FONT_SIZE = 12
FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKjp-Regular.otf",
    "NotoSansSC-Regular.otf",
    "WenQuanYiMicroHei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "NotoSansDevanagari-Regular.ttf",
    "NotoSansArabic-Regular.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "msyh.ttc",
    "LiberationSans-Regular.ttf",
)
"""Looked for among the system's fonts; the first that has most of a text's letters writes it."""


@frozen(eq=False)
class Row:
    """One caption and its clips, uint8 [3, T, H, W] each, one per block of columns."""

    caption: str
    clips: Sequence[torch.Tensor]


def write_contact_sheet(path: Path, titles: Sequence[str], rows: Sequence[Row]) -> None:
    """A PNG with one block of frames for each title, one row for each caption. Long captions end in an ellipsis."""
    block = COLUMNS * (TILE + GAP) + 4 * GAP
    width = GAP + len(titles) * block
    captions = [wrapped(row.caption, width - 2 * GAP) for row in rows]
    header = LINE + 2 * GAP
    height = header + sum(len(lines) * LINE + TILE + 3 * GAP for lines in captions)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for number, title in enumerate(titles):
        draw.text((GAP + number * block, GAP), title, fill="black", font=font_for(title))
    top = header
    for row, lines in zip(rows, captions, strict=True):
        font = font_for(row.caption)
        for line in lines:
            draw.text((GAP, top), line, fill="black", font=font)
            top += LINE
        for number, clip in enumerate(row.clips):
            for column, tile in enumerate(_tiles(clip)):
                sheet.paste(tile, (GAP + number * block + column * (TILE + GAP), top + GAP))
        top += TILE + 3 * GAP
    partial = path.with_name(f".{path.name}.partial")
    sheet.save(partial, format="PNG")
    partial.replace(path)


def wrapped(text: str, width: int) -> list[str]:
    """At most `MAX_LINES` lines no wider than `width` pixels; scripts without spaces break anywhere."""
    font, rest = font_for(text), " ".join(text.split())
    lines: list[str] = []
    while rest and len(lines) < MAX_LINES:
        count = len(rest)
        while count > 1 and font.getlength(rest[:count]) > width:
            count = max(1, min(count - 1, int(count * width / font.getlength(rest[:count]))))
        space = rest.rfind(" ", 0, count + 1)
        if count < len(rest) and space > count // 2:
            count = space
        lines.append(rest[:count])
        rest = rest[count:].lstrip()
    if rest:
        lines[-1] = lines[-1][:-1] + "…"
    return lines or [""]


def font_for(text: str) -> Font:
    """A font of this system that has most of the text's letters; Pillow's own where there is none."""
    letters = sorted(set("".join(text.split())))  # Line breaks cannot be drawn.
    fonts = _fonts()
    missing = [sum(_is_missing(index, letter) for letter in letters) for index in range(len(fonts))]
    return fonts[missing.index(min(missing))]


@cache
def _fonts() -> list[Font]:
    fonts: list[Font] = []
    for name in FONTS:
        try:
            fonts.append(ImageFont.truetype(name, FONT_SIZE))
        except OSError:
            continue
    return fonts or [ImageFont.load_default(FONT_SIZE)]


@cache
def _is_missing(font: int, letter: str) -> bool:
    """Whether a font draws a letter as it draws what no font has."""
    drawn, absent = (bytes(_fonts()[font].getmask(text)) for text in (letter, "\U0010fffe"))
    return drawn == absent


def _tiles(clip: torch.Tensor) -> list[Image.Image]:
    frames = clip.permute(1, 2, 3, 0).cpu().numpy()
    indices = np.linspace(0, len(frames) - 1, min(COLUMNS, len(frames))).round().astype(int)
    tiles = [Image.fromarray(frames[index]) for index in indices]
    scale = TILE / max(tiles[0].size)
    size = (max(1, round(tiles[0].width * scale)), max(1, round(tiles[0].height * scale)))
    return [tile.resize(size, Image.Resampling.BILINEAR) for tile in tiles]
