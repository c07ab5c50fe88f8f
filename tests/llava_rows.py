"""Rows of LLaVA-OneVision for tests, in Parquet files as the Hub has them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_vlm.config import LlavaConfig

__all__ = ["SUBSET", "config_of", "row", "write_rows"]

SUBSET = "ai2d(gpt4v)"
"""The one that is read unless another is named."""


def row(number: int, said: str = "noise") -> dict[str, Any]:
    """A question about a picture of noise, and an answer."""
    data = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(data, "PNG")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": said}]
    return {"id": f"row{number}", "image": {"bytes": data.getvalue(), "path": None}, "conversations": turns}


def write_rows(folder: Path, *, files: int, rows: int, block: int) -> None:
    """Files of `rows` rows each, in row groups of `block`; numbered over all files."""
    folder.mkdir(parents=True)
    for file in range(files):
        table = pa.Table.from_pylist([row(file * rows + number) for number in range(rows)])
        pq.write_table(table, folder / f"train-{file:05d}.parquet", row_group_size=block)


def config_of(path: Path, **options: Any) -> LlavaConfig:
    """Of a local copy."""
    return LlavaConfig(type="llava_ov", path=str(path), **options)
