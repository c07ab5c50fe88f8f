"""Clips that can be checked by eye: a coloured shape that moves in a stated direction over a grey texture."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import numpy as np
from attrs import asdict, frozen
from numpy.typing import NDArray

__all__ = ["COLORS", "Attributes", "attribute_sets", "attributes_of", "dense_caption", "render", "structured_caption"]

COLORS = {
    "red": (1, 0, 0),
    "yellow": (1, 1, 0),
    "green": (0, 1, 0),
    "cyan": (0, 1, 1),
    "blue": (0, 0, 1),
    "magenta": (1, 0, 1),
}
"""Pure hues, 60 degrees apart."""

SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "down": (0, 1), "up": (0, -1)}
BACKGROUNDS = ("stripes", "checks", "waves", "gradient")

Array = NDArray[Any]


@frozen
class Attributes:
    """Everything a caption states about a clip."""

    color: str
    shape: str
    direction: str
    background: str


def attribute_sets() -> list[Attributes]:
    """All 288 combinations, in a fixed order."""
    return [Attributes(*values) for values in product(COLORS, SHAPES, DIRECTIONS, BACKGROUNDS)]


def structured_caption(attributes: Attributes) -> dict[str, Any]:
    """The clip as a `caption_json` object (docs/data.md, Structured captions)."""
    return {
        "subjects": [
            {"description": f"{attributes.color} {attributes.shape}", "action": f"moving {attributes.direction}"}
        ],
        "background_setting": attributes.background,
    }


def dense_caption(attributes: Attributes) -> str:
    """The clip in one sentence."""
    values = asdict(attributes)
    return "A {color} {shape} moves {direction} over a grey background of {background}.".format(**values)


def attributes_of(caption: str) -> Attributes:
    """The inverse of `structured_caption`, from its text. Raises ValueError for any other caption."""
    try:
        values = json.loads(caption)
        subject = values["subjects"][0]
        color, shape = subject["description"].split(" ")
        return Attributes(color, shape, subject["action"].removeprefix("moving "), values["background_setting"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not a caption of a synthetic clip: {caption!r}") from error


def render(attributes: Attributes, random: np.random.Generator, *, size: int, frames: int) -> NDArray[np.uint8]:
    """One clip, [frames, size, size, 3]; brightness, radius, path, place and texture phase come from `random`."""
    radius = random.uniform(0.16, 0.20)
    travel = random.uniform(0.34, 0.40)
    offset = random.uniform(-0.08, 0.08, 2)
    brightness = random.uniform(0.85, 1.0)
    background = _background(attributes.background, random, size)[..., None]
    color = 255 * brightness * np.array(COLORS[attributes.color], dtype=float)
    heading = np.array(DIRECTIONS[attributes.direction], dtype=float)
    clip = np.empty((frames, size, size, 3), np.uint8)
    for number, progress in enumerate(np.linspace(-0.5, 0.5, frames)):
        centre = 0.5 + offset + progress * travel * heading
        cover = _coverage(attributes.shape, centre, radius, size)[..., None]
        clip[number] = np.rint(cover * color + (1 - cover) * background)
    return clip


def _pixels(size: int) -> tuple[Array, Array]:
    """X and y of pixel centres, in units of the side."""
    line = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(line, line)
    return x, y


def _coverage(shape: str, centre: Array, radius: float, size: int) -> Array:
    """Share of each pixel inside the shape; the three shapes have the area of a circle of `radius`."""
    x, y = _pixels(size)
    x, y = x - centre[0], y - centre[1]
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - radius * np.sqrt(np.pi) / 2
    else:
        inner = radius * np.sqrt(np.pi / (3 * np.sqrt(3)))
        distance = np.maximum(y, np.sqrt(3) / 2 * np.abs(x) - y / 2) - inner
    return np.clip(0.5 - distance * size, 0, 1)


def _background(kind: str, random: np.random.Generator, size: int) -> Array:
    """Grey levels [size, size] of 50 to 190; the period is a quarter of the side."""
    x, y = _pixels(size)
    base, amplitude = random.uniform(90, 150), random.uniform(25, 40)
    phases = random.uniform(0, 2 * np.pi, 2)
    u, v = 8 * np.pi * x + phases[0], 8 * np.pi * y + phases[1]
    waves = {
        "stripes": np.sin(u),
        "checks": np.sin(u) * np.sin(v),
        "waves": np.sin(v + np.sin(u)),
        "gradient": 2 * np.abs((x + phases[0] / (2 * np.pi)) % 1 - 0.5) * 2 - 1,
    }
    return np.rint(base + amplitude * waves[kind])
