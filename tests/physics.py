"""A small dataset in VideoPhy-2's canonical layout: a ball that falls, with five strengths of gravity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cosmos_core.data.video import write_mp4

__all__ = ["write_physics"]

FRAMES = 8
SIZE = 64
QUESTION = "Rate the physics from 1 to 5."


def write_physics(root: Path, *, train: int, val: int) -> Path:
    """Write both splits; the answers run 1, 2, ... 5, 1, ..."""
    for split, count in (("train", train), ("val", val)):
        folder = root / f"videophy2_{split}"
        for part in ("media", "text"):
            (folder / part).mkdir(parents=True)
        manifest = []
        for number in range(count):
            name = f"{number + 1:04d}"
            write_mp4(folder / f"media/video_{name}.mp4", _ball(number % 5, seed=number), 2)
            answer = [{"type": "text", "text": str(number % 5 + 1)}]
            question = [{"type": "video", "video": "video_0"}, {"type": "text", "text": QUESTION}]
            messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            (folder / f"text/conversation_{name}.json").write_text(json.dumps({"conversations": messages}))
            manifest.append(
                {
                    "id": f"conversation_{name}",
                    "media": f"media/video_{name}.mp4",
                    "conversation": f"text/conversation_{name}.json",
                }
            )
        (folder / "meta.json").write_text(json.dumps(manifest, indent=2))
    return root


def _ball(gravity: int, seed: int) -> np.ndarray:
    """uint8 [FRAMES, SIZE, SIZE, 3]."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    frames = np.full((FRAMES, SIZE, SIZE, 3), 128, np.uint8)
    left, top = random.uniform(14, 50, 2)
    for index in range(FRAMES):
        fall = 0.5 * (gravity - 1) * (index / FRAMES) ** 2 * 24
        frames[index][np.hypot(x - left, y - top - fall) < 5] = 230
    return frames
