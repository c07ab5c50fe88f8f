"""LLaVA-OneVision from Parquet files: images with conversations (spec/data.md 2, spec/vlm.md 6.2)."""

from __future__ import annotations

import io
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from cosmos_core.data import Chat, Picture, Turn, UnreadableSample
from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import fetch
from cosmos_core.plugin import CheckpointSpec
from cosmos_vlm.config import LlavaConfig

__all__ = ["LlavaSource", "turns_of"]

COLUMNS = ["id", "image", "conversations"]


class LlavaSource:
    """MapSource of Chat; a row group is read at a time and kept until another one is needed."""

    def __init__(self, config: LlavaConfig) -> None:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile

        folder = Path(config.path) if config.path else _fetched(config)
        self._groups: list[tuple[Path, int]] = []
        sizes: list[int] = []
        for file in sorted(folder.rglob("*.parquet")):
            try:
                metadata = ParquetFile(file).metadata
            except (ArrowInvalid, OSError) as error:
                problem = Problem(message=str(error), file=str(file), hint="fetch it again")
                raise UserError("a Parquet file cannot be read; nothing was started", [problem]) from None
            for group in range(metadata.num_row_groups):
                self._groups.append((file, group))
                sizes.append(metadata.row_group(group).num_rows)
        if not sizes:
            raise UserError(f"no Parquet file with rows below {folder}; nothing was started")
        self._ends = list(accumulate(sizes))
        self._held: tuple[int, list[dict[str, Any]]] = (-1, [])

    def __len__(self) -> int:
        return self._ends[-1]

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Row `index`. Raises UnreadableSample for rows without picture or answer."""
        number = bisect_right(self._ends, index)
        row = self._rows(number)[index - (self._ends[number - 1] if number else 0)]
        key = str(row.get("id") or index)
        turns = row.get("conversations") or []
        if row.get("image") is None:
            raise UnreadableSample(key, "no image")
        if len(turns) < 2:
            raise UnreadableSample(key, "fewer than two turns")
        return Chat(key, turns_of(turns, _picture(row["image"], key)))

    def _rows(self, number: int) -> list[dict[str, Any]]:
        if self._held[0] != number:
            from pyarrow.parquet import ParquetFile

            file, group = self._groups[number]
            self._held = (number, ParquetFile(file).read_row_group(group, columns=COLUMNS).to_pylist())
        return self._held[1]


def turns_of(conversation: list[dict[str, str]], picture: Picture) -> tuple[Turn, ...]:
    """ShareGPT turns as ours; the picture stands before the first user turn's text, wherever its marker stood."""
    turns = []
    for number, said in enumerate(conversation):
        role = "user" if said["from"] == "human" else "assistant"
        text = said["value"].replace("<image>", "").strip()
        turns.append(Turn(role, (picture, text) if number == 0 and role == "user" else (text,)))
    return tuple(turns)


def _picture(stored: dict[str, Any], key: str) -> Picture:
    try:
        with Image.open(io.BytesIO(stored["bytes"])) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UnreadableSample(key, f"image cannot be read ({type(error).__name__})") from None
    return Picture(torch.from_numpy(pixels.copy()).permute(2, 0, 1))


def _fetched(config: LlavaConfig) -> Path:
    spec = CheckpointSpec(
        name=config.repo, summary="", repo=config.repo, revision=config.revision, files=(f"{config.subset}/*.parquet",)
    )
    return fetch(spec, repo_type="dataset").path / config.subset
