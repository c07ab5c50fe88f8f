"""Writes splits in the canonical layout: media and conversations first, the manifest last."""

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
    hidden = path.with_name(f"{path.name}.part")
    hidden.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    hidden.replace(path)


def write_synthetic(root: Path, options: Synthetic) -> bool:
    """Write both splits; False if they are there already. Raises UserError when the folder holds something else."""
    if root.exists():
        if _recorded(root / RECORD) == asdict(options):
            return False
        raise UserError(f"{root} exists and holds something else; choose another folder or remove it")
    hidden = root.with_name(f".{root.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)
    with Progress() as progress:
        task = progress.add_task("writing clips", total=options.train + options.val)
        for split, count in (("train", options.train), ("val", options.val)):
            folder = hidden / f"videophy2_{split}"
            for part in ("media", "text"):
                (folder / part).mkdir(parents=True)
            manifest = []
            for index, grade in enumerate(grades(count, options.seed, split)):
                drawn = draw(grade, np.random.default_rng(stream_seed(options.seed, f"physics {split}", index)))
                line = entry(index + 1, drawn.category)
                write_mp4(folder / line["media"], drawn.pixels, FPS)
                write_json(folder / line["conversation"], conversation(SHORT, str(grade)))
                manifest.append(line)
                progress.advance(task)
            write_json(folder / "meta.json", manifest)
    (hidden / RECORD).write_text(json.dumps({"format": FORMAT, **asdict(options)}) + "\n")
    root.parent.mkdir(parents=True, exist_ok=True)
    hidden.rename(root)
    return True


def _recorded(path: Path) -> dict[str, Any]:
    """The options a folder was written with; {} if unknown. Raises UserError for a newer version's record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    check_format(content, path, FORMAT, package=PACKAGE)
    return {name: value for name, value in content.items() if name != "format"} if isinstance(content, dict) else {}
