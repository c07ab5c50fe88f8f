"""Writes splits in the canonical layout: media and conversations first, the manifest last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen

from cosmos_core.console import progress
from cosmos_core.data.prepared import write_prepared
from cosmos_core.data.video import write_mp4
from cosmos_core.plan.record import replace_file
from cosmos_core.seeds import stream_seed
from cosmos_data_videophy.question import SHORT, conversation
from cosmos_data_videophy.synthetic import FPS, draw, grades

__all__ = ["FORMAT", "PACKAGE", "Synthetic", "entry", "write_json", "write_synthetic"]

FORMAT = 1
"""Of the records of what was prepared."""
PACKAGE = "cosmos-data-videophy"


@frozen(kw_only=True)
class Synthetic:
    """Numbers of synthetic clips. seed: of everything drawn."""

    train: int
    val: int
    seed: int


def entry(number: int, category: str = "") -> dict[str, str]:
    """The manifest's entry for clip `number`, counted from 1."""
    line = {
        "id": f"conversation_{number:04d}",
        "media": f"media/video_{number:04d}.mp4",
        "conversation": f"text/conversation_{number:04d}.json",
    }
    return {**line, "category": category} if category else line


def write_json(path: Path, value: Any) -> None:
    """Write under a hidden name and rename, so that the file is complete or absent."""
    replace_file(path, f"{json.dumps(value, indent=2)}\n".encode())


def write_synthetic(root: Path, options: Synthetic) -> bool:
    """Write both splits; False if they are there already. Raises UserError when the folder holds something else."""

    def write(folder: Path) -> None:
        with progress("writing", options.train + options.val, "clips") as writing:
            for split, count in (("train", options.train), ("val", options.val)):
                for _ in _write_split(folder / f"videophy2_{split}", split, count, options.seed):
                    writing.advance()

    return write_prepared(root, asdict(options), write, package=PACKAGE)


def _write_split(folder: Path, split: str, count: int, seed: int) -> Iterator[None]:
    """One step a clip; the manifest is written last."""
    for part in ("media", "text"):
        (folder / part).mkdir(parents=True)
    manifest = []
    for index, grade in enumerate(grades(count, seed, split)):
        drawn = draw(grade, np.random.default_rng(stream_seed(seed, f"physics {split}", index)))
        line = entry(index + 1, drawn.category)
        write_mp4(folder / line["media"], drawn.pixels, FPS)
        write_json(folder / line["conversation"], conversation(SHORT, str(grade)))
        manifest.append(line)
        yield
    write_json(folder / "meta.json", manifest)
