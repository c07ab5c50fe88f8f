"""The index of a split, without its clips. Light: the checks before a run read it too."""

from __future__ import annotations

from pathlib import Path

from cosmos_core.data.jsonl import ClipFilter, ClipIndex, read_clips
from cosmos_data_bridge.captions import check_captions
from cosmos_data_bridge.config import BridgeConfig

__all__ = ["index_file", "read_index"]


def index_file(config: BridgeConfig) -> Path:
    """The JSONL file of the configured split."""
    return Path(config.path) / config.split / config.jsonl


def read_index(config: BridgeConfig) -> ClipIndex:
    """All usable clips of the configured split. Raises UserError."""
    clip_filter = ClipFilter(config.max_duration, config.min_short_edge, config.min_window_frames)
    return read_clips(
        index_file(config), Path(config.path), clip_filter, media_roots=config.media_roots, check=check_captions
    )
