"""Videos with captions, and pictures with dialogs, of realistic sizes and lengths, as files that recipes read."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from attrs import frozen
from PIL import Image

from cosmos_core.data.video import write_mp4
from cosmos_data_bridge.synthetic import attribute_sets, render, structured_caption

__all__ = ["ClipSizes", "DialogSizes", "captions", "dialogs", "write_clips", "write_pictures"]

FPS = 24
SYLLABLES = ("ba", "ro", "ti", "le", "mu", "san", "ker", "vo", "del", "pi", "nor", "ga", "shi", "wen", "lo", "tra")


@frozen
class ClipSizes:
    """count: of clips. words: of a caption, on average. width, height: in pixels."""

    count: int
    frames: int
    width: int
    height: int
    words: int


@frozen
class DialogSizes:
    """count: of dialogs, with a picture each. question, answer: words on average. width, height: in pixels."""

    count: int
    width: int
    height: int
    question: int
    answer: int


def _text(random: np.random.Generator, words: int) -> str:
    """About so many words of a small vocabulary, a quarter more or fewer; a comma or full stop after some."""
    number = max(1, int(words * random.uniform(0.75, 1.25)))
    parts = ["".join(random.choice(SYLLABLES, 1 + index % 3)) for index in random.integers(0, 3, number)]
    return " ".join(
        part + mark for part, mark in zip(parts, random.choice(["", "", "", ",", "."], number), strict=True)
    )


def captions(sizes: ClipSizes) -> list[dict[str, object]]:
    """A structured caption for each clip."""
    sets = attribute_sets()
    return [
        {
            **structured_caption(sets[index % len(sets)]),
            "temporal_caption": _text(np.random.default_rng(index), sizes.words),
        }
        for index in range(sizes.count)
    ]


def write_clips(root: Path, sizes: ClipSizes) -> None:
    """A dataset in the layout of `bridge`; its files are encoded side by side."""
    videos = root / "train/videos"
    videos.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_clip, videos, sizes), range(sizes.count)))
    records = [_record(index, caption, sizes) for index, caption in enumerate(captions(sizes))]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (root / "train/video_dataset_file.jsonl").write_text(lines, encoding="utf-8")


def _write_clip(folder: Path, sizes: ClipSizes, index: int) -> None:
    sets = attribute_sets()
    random = np.random.default_rng(index)
    frames = render(sets[index % len(sets)], random, size=sizes.width, frames=sizes.frames)
    top = (sizes.width - sizes.height) // 2
    write_mp4(folder / f"{index}.mp4", frames[:, top : top + sizes.height], FPS)


def _record(index: int, caption: dict[str, object], sizes: ClipSizes) -> dict[str, object]:
    window = {"start_frame": 0, "end_frame": sizes.frames - 1, "temporal_interval": 1, "caption_json": caption}
    return {
        "uuid": f"clip{index}",
        "vision_path": f"videos/{index}.mp4",
        "duration": sizes.frames / FPS,
        "width": sizes.width,
        "height": sizes.height,
        "nb_frames": sizes.frames,
        "framerate": float(FPS),
        "t2w_windows": [window],
    }


def dialogs(sizes: DialogSizes) -> list[dict[str, object]]:
    """Rows in the layout of LLaVA-OneVision, with the names of their pictures."""
    rows: list[dict[str, object]] = []
    for index in range(sizes.count):
        random = np.random.default_rng(index)
        turns = [
            {"from": "human", "value": f"<image>\n{_text(random, sizes.question)}?"},
            {"from": "gpt", "value": _text(random, sizes.answer)},
        ]
        rows.append({"id": str(index), "image": f"{index}.jpg", "conversations": turns})
    return rows


def write_pictures(root: Path, sizes: DialogSizes) -> None:
    """A local copy: rows in JSON, with JPEG files beside it."""
    root.mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(_write_picture, root, sizes), range(sizes.count)))
    (root / "rows.json").write_text(json.dumps(dialogs(sizes)), encoding="utf-8")


def _write_picture(folder: Path, sizes: DialogSizes, index: int) -> None:
    """Coarse noise, enlarged: it compresses about as a photograph does."""
    noise = np.random.default_rng(index).integers(0, 256, (sizes.height // 8, sizes.width // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((sizes.width, sizes.height), Image.Resampling.BICUBIC)
    picture.save(folder / f"{index}.jpg", quality=90)
