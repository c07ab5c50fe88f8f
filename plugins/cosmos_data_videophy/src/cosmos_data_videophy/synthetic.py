"""Clips of a ball that obeys or breaks gravity in five grades.

The ball starts and ends anywhere in every grade, so the first and last frames do not give the grade away. Only the
path between them does.
"""

from __future__ import annotations

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from cosmos_core.seeds import stream_seed

__all__ = ["FPS", "FRAMES", "SIZE", "Drawn", "draw", "grades"]

Array = NDArray[np.float64]

SIZE = 64
FRAMES = 8
FPS = 2
SAG = 8.0
"""Depth in pixels of the arc that true gravity draws between two points."""
REACH = (14.0, 50.0)
JUMP = 14.0
"""Shortest jump of grade 1, so that it is visible."""
PULL = {5: 1.0, 4: 0.5, 3: 0.0, 2: -1.0, 1: 1.0}
"""Share of true gravity: full, half, none, upwards; grade 1 falls truly but teleports twice."""
LARGE = 4.25


@frozen
class Drawn:
    """pixels: uint8 [FRAMES, SIZE, SIZE, 3]. category: 'small' or 'large', the ball's size."""

    pixels: NDArray[np.uint8]
    category: str


def grades(count: int, seed: int, split: str) -> list[int]:
    """`count` grades in equal shares, shuffled."""
    shuffled = [1 + index % 5 for index in range(count)]
    np.random.default_rng(stream_seed(seed, f"physics grades {split}")).shuffle(shuffled)
    return shuffled


def draw(grade: int, random: np.random.Generator) -> Drawn:
    """A clip of a grade; everything else about it is random."""
    radius = random.uniform(3.5, 5.0)
    path = _teleporting(random) if grade == 1 else _arc(random, PULL[grade], np.linspace(0, 1, FRAMES))
    color = random.uniform(0.85, 1.0, 3)
    # Mid-grey is about zero to the vision tower, so that the ball stands out.
    top, bottom = random.uniform(0.4, 0.6, (2, 3))
    ramp = np.linspace(0, 1, SIZE)[:, None, None]
    background = np.broadcast_to(top + (bottom - top) * ramp, (SIZE, SIZE, 3))
    y, x = np.mgrid[:SIZE, :SIZE]
    frames = []
    for left, height in path:
        cover = np.clip(radius + 0.5 - np.hypot(x - left, y - height), 0, 1)[..., None]
        frames.append(background * (1 - cover) + color * cover)
    pixels = np.round(255 * np.stack(frames)).astype(np.uint8)
    return Drawn(pixels, "large" if radius >= LARGE else "small")


def _arc(random: np.random.Generator, pull: float, moments: Array) -> Array:
    """[n, 2] of x and y at `moments` in 0..1, y downwards: straight in x, a parabola in y."""
    (x0, y0), (x1, y1) = random.uniform(*REACH, (2, 2))
    x = x0 + (x1 - x0) * moments
    y = y0 + (y1 - y0) * moments - 4 * SAG * pull * moments * (1 - moments)
    return np.stack([x, y], axis=1)


def _teleporting(random: np.random.Generator) -> Array:
    """Three pieces of true arcs with visible jumps between them, none next to the first or last frame."""
    moments = np.linspace(0, 1, FRAMES)
    cuts = np.sort(random.choice(np.arange(2, FRAMES - 1), 2, replace=False))
    while True:
        pieces = [_arc(random, 1.0, moments) for _ in range(3)]
        owner = np.searchsorted(cuts, np.arange(FRAMES), side="right")
        path = np.stack([pieces[piece][index] for index, piece in enumerate(owner)])
        jumps = np.linalg.norm(path[cuts] - path[cuts - 1], axis=1)
        if (jumps >= JUMP).all():
            return path
