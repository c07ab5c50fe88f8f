"""Options of the `folder` dataset (docs/data.md, Your own videos)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.config import option, required
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.folder.listing import Source

__all__ = ["FolderConfig"]


@frozen(kw_only=True)
class FolderConfig(BridgeConfig):
    """Clips and pictures with captions beside them, or in a table."""

    path: str = required("Folder with clips and captions, or a CSV, TSV, JSONL, Parquet or Feather table.")
    split: str = option("train", "Which part of the files.", choices=("train", "val"))
    min_window_frames: int = option(1, "Shorter windows are left out.", unit="frames", low=1)
    path_column: str | None = option(None, "Column of a table that holds paths; absent: looked for.")
    caption_column: str | None = option(None, "Column of a table that holds captions; absent: looked for.")
    window: int | None = option(None, "Length of a window; absent: the whole clip.", unit="frames", low=1)
    stride: int | None = option(None, "From one window to the next; absent: as long as a window.", unit="frames", low=1)
    validation: float = option(0.05, "Share of the files in the part 'val'.", low=0, high=1)

    @path.validator
    def _is_here(self, attribute: Any, path: str) -> None:
        if "://" in path:
            raise ValueError(f"is an address; `cosmos data prepare folder {path} -o OUT` fetches it")

    @stride.validator
    def _has_windows(self, attribute: Any, stride: int | None) -> None:
        if stride is not None and self.window is None:
            raise ValueError("has no effect without window")

    @property
    def source(self) -> Source:
        """Where the clips are listed."""
        return Source(Path(self.path), self.path_column, self.caption_column)
