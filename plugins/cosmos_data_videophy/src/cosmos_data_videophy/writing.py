"""Splits in the canonical layout: media and conversations first, the manifest last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen
from rich.progress import Progress

from cosmos_core.data.video import write_mp4
from cosmos_core.errors import UserError
from cosmos_core.formats import check_format
from cosmos_core.seeds import stream_seed
from cosmos_data_videophy.question import SHORT, conversation
from cosmos_data_videophy.synthetic import FPS, draw, grades

__all__ = ["FORMAT", "PACKAGE", "Synthetic", "entry", "write_json", "write_synthetic"]

RECORD = ".prepared.json"
FORMAT = 1
"""Of the records of what was prepared."""
PACKAGE = "cosmos-data-videophy"


@frozen(kw_only=True)
class Synthetic:
    """How many clips; seed: of everything drawn."""

    train: int
    val: int
    seed: int


def entry(number: int, category: str = "") -> dict[str, str]:
    """The manifest's line for clip `number`, counted from 1."""
    line = {
        "id": f"conversation_{number:04d}",
        "media": f"media/video_{number:04d}.mp4",
        "conversation": f"text/conversation_{number:04d}.json",
    }
    return {**line, "category": category} if category else line


def write_json(path: Path, value: Any) -> None:
    """Written beside and renamed, so that a file is whole or absent."""
    hidden = path.with_name(f"{path.name}.part")
    hidden.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    hidden.replace(path)


def write_synthetic(root: Path, wanted: Synthetic) -> bool:
    """Write both splits; False when they are already there. Raises UserError when something else is."""
    if root.exists():
        if _recorded(root / RECORD) == asdict(wanted):
            return False
        raise UserError(f"{root} exists and holds something else; choose another folder or remove it")
    hidden = root.with_name(f".{root.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    with Progress() as progress:
        task = progress.add_task("writing clips", total=wanted.train + wanted.val)
        for split, count in (("train", wanted.train), ("val", wanted.val)):
            folder = hidden / f"videophy2_{split}"
            for part in ("media", "text"):
                (folder / part).mkdir(parents=True)
            manifest = []
            for index, grade in enumerate(grades(count, wanted.seed, split)):
                drawn = draw(grade, np.random.default_rng(stream_seed(wanted.seed, f"physics {split}", index)))
                line = entry(index + 1, drawn.category)
                write_mp4(folder / line["media"], drawn.pixels, FPS)
                write_json(folder / line["conversation"], conversation(SHORT, str(grade)))
                manifest.append(line)
                progress.advance(task)
            write_json(folder / "meta.json", manifest)
    (hidden / RECORD).write_text(json.dumps({"format": FORMAT, **asdict(wanted)}) + "\n")
    root.parent.mkdir(parents=True, exist_ok=True)
    hidden.rename(root)
    return True


def _recorded(path: Path) -> dict[str, Any]:
    """What a folder was asked to hold; {} when that is not known. Raises UserError for a newer version's record."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    check_format(found, path, FORMAT, package=PACKAGE)
    return {name: value for name, value in found.items() if name != "format"} if isinstance(found, dict) else {}
