"""Sizes in pixels: those of the base models by resolution and aspect, and sizes that users write."""

from __future__ import annotations

import re

__all__ = ["ASPECTS", "RESOLUTIONS", "aspect_of", "nearest_frames", "parse_size"]

SIDE = 16
"""Pixels of a side that are one latent pixel."""
STRIDE = 4
"""Frames, after the first, that are one latent frame."""

ASPECTS = ("1,1", "4,3", "3,4", "16,9", "9,16")
RESOLUTIONS = {
    "64": ((64, 64), (80, 64), (64, 80), (112, 64), (64, 112)),
    "256": ((256, 256), (320, 256), (256, 320), (320, 192), (192, 320)),
    "480": ((640, 640), (736, 544), (544, 736), (832, 480), (480, 832)),
    "704": ((960, 960), (1088, 832), (832, 1088), (1280, 704), (704, 1280)),
    "720": ((960, 960), (1104, 832), (832, 1104), (1280, 720), (720, 1280)),
    "768": ((1024, 1024), (1184, 880), (880, 1184), (1360, 768), (768, 1360)),
}
"""(width, height) by aspect, in the order of `ASPECTS`."""
_RATIOS = (1.0, 4 / 3, 3 / 4, 16 / 9, 9 / 16)


def aspect_of(width: int, height: int) -> str:
    """The aspect nearest to a size."""
    distances = [(width / height - ratio) ** 2 for ratio in _RATIOS]
    return ASPECTS[distances.index(min(distances))]


def parse_size(text: str, aspect: str) -> tuple[int, int]:
    """(width, height) of "832x480", or of a resolution such as "480" with an aspect.

    Raises ValueError that says what fits.
    """
    if text in RESOLUTIONS:
        return RESOLUTIONS[text][ASPECTS.index(aspect)]
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ValueError(f"is {text!r}; write WIDTHxHEIGHT, such as 832x480, or one of {', '.join(RESOLUTIONS)}")
    width, height = int(match[1]), int(match[2])
    if width % SIDE or height % SIDE or not width or not height:
        fit_width, fit_height = (max(SIDE, SIDE * round(side / SIDE)) for side in (width, height))
        raise ValueError(
            f"is {text}, but sides are multiples of {SIDE} pixels; the nearest that fits is {fit_width}x{fit_height}"
        )
    return width, height


def nearest_frames(frames: int) -> tuple[int, ...]:
    """The numbers of frames around `frames` that the video tokenizer takes: 1 + 4n."""
    below = 1 + max(0, (frames - 1) // STRIDE) * STRIDE
    return (below,) if below == frames else (below, below + STRIDE)
