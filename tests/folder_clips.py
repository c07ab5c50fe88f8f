"""A small video, and preparing a folder within the test's process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmos_core.data.video import write_mp4
from cosmos_core.errors import UserError
from cosmos_data_bridge.folder.listing import fetched
from cosmos_data_bridge.folder.measure import Cut
from cosmos_data_bridge.folder.writing import Options, write_folder

__all__ = ["FRAMES", "captions_of", "fault", "one_clip", "prepare_here", "records", "small_video", "told"]

FRAMES = 12


def small_video(folder: Path) -> bytes:
    """64 x 64 pixels, 10 frames a second; frame i is a grey of 20 + 15 i."""
    frames = np.empty((FRAMES, 64, 64, 3), np.uint8)
    frames[:] = (20 + 15 * np.arange(FRAMES))[:, None, None, None]
    write_mp4(folder / "a.mp4", frames, 10)
    return (folder / "a.mp4").read_bytes()


def one_clip(root: Path, video: bytes) -> Path:
    """A new folder with a clip of a cat and its caption."""
    root.mkdir()
    (root / "a.mp4").write_bytes(video)
    (root / "a.txt").write_text("a cat")
    return root


def prepare_here(source: Path | str, out: Path, *, copy: bool = False, window: int | None = None) -> list[str]:
    """What `cosmos data prepare folder` tells; nothing is held out."""
    told: list[str] = []
    options = Options(Cut(window), 0.0, copy, "vision_sft_demo", "64")
    write_folder(fetched(str(source), None, None), out, options, told.append)
    return told


def told(error: UserError) -> str:
    """All problems of an error, with their places and hints."""
    return "\n".join(f"{problem.file}:{problem.line}  {problem.message}; {problem.hint}" for problem in error.problems)


def fault(source: Path, out: Path, *, copy: bool = False) -> str:
    """What preparing is refused for."""
    with pytest.raises(UserError) as refused:
        prepare_here(source, out, copy=copy)
    return told(refused.value)


def records(out: Path, split: str = "train") -> list[dict[str, Any]]:
    """Of a split's manifest."""
    return [json.loads(line) for line in (out / split / "video_dataset_file.jsonl").read_text().splitlines()]


def captions_of(out: Path) -> dict[str, str]:
    """Captions of the training clips, by name; each clip is there."""
    found = {}
    for record in records(out):
        assert (out / "train" / record["vision_path"]).is_file()
        found[record["uuid"]] = record["t2w_windows"][0]["caption"]
    return found
