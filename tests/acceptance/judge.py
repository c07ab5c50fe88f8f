"""Reads colour and direction of motion off a clip of one coloured shape over a grey background.

Works on pixels alone: chroma separates the shape from the background, hue names the colour, the moving centroid names
the direction. It knows nothing of models or captions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

__all__ = ["NONE", "Verdict", "judge"]

NONE = "none"

HUES = {"red": 0.0, "yellow": 60.0, "green": 120.0, "cyan": 180.0, "blue": 240.0, "magenta": 300.0}

MIN_CHROMA = 0.25
"""Chroma below which a pixel counts as grey."""

MIN_SHARE = 0.01
"""Share of the clip's pixels that must be coloured for there to be a shape."""

MIN_TRAVEL = 0.08
"""Shortest path of the centroid, in widths, that counts as motion."""

Array = NDArray[Any]


@frozen
class Verdict:
    """colour and direction, each possibly 'none'; own_hue: share of coloured votes that the winning hue has."""

    colour: str
    direction: str
    own_hue: float


def _chroma_and_hue(video: Array) -> tuple[Array, Array]:
    rgb = video.astype(np.float32) / 255
    high, low = rgb.max(axis=-1), rgb.min(axis=-1)
    chroma = high - low
    safe = np.where(chroma > 0, chroma, 1)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sextant = np.where(
        high == red,
        ((green - blue) / safe) % 6,
        np.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return chroma, sextant * 60


def _distance(hue: Array, centre: float) -> Array:
    return np.abs((hue - centre + 180) % 360 - 180)


def _direction(chroma: Array, hue: Array, centre: float) -> str:
    weight = np.where((chroma > MIN_CHROMA) & (_distance(hue, centre) <= 45), chroma, 0)
    rows, columns = np.indices(weight.shape[1:])
    ends = []
    for frames in (weight[:4], weight[-4:]):
        mass = frames.sum()
        if mass == 0:
            return NONE
        ends.append(((frames * columns).sum() / mass, (frames * rows).sum() / mass))
    right, down = ends[1][0] - ends[0][0], ends[1][1] - ends[0][1]
    if np.hypot(right, down) < MIN_TRAVEL * weight.shape[2]:
        return NONE
    if abs(right) >= abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def judge(video: Array) -> Verdict:
    """Judge one clip, uint8 [T, H, W, 3]."""
    chroma, hue = _chroma_and_hue(video)
    coloured = chroma > MIN_CHROMA
    if coloured.mean() < MIN_SHARE:
        return Verdict(NONE, NONE, 0.0)
    votes = {name: float(chroma[coloured & (_distance(hue, centre) <= 30)].sum()) for name, centre in HUES.items()}
    colour = max(votes, key=lambda name: votes[name])
    return Verdict(colour, _direction(chroma, hue, HUES[colour]), votes[colour] / sum(votes.values()))
