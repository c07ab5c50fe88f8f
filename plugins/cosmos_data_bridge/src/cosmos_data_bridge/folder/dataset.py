"""The `folder` dataset: clips as they lie, listed and measured when training starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cosmos_core.console import progress
from cosmos_core.data.dropped import Drops
from cosmos_core.data.jsonl import ClipFilter, ClipIndex, ClipRecord, Window, index_of
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.listing import Listing
from cosmos_data_bridge.folder.measure import Cut, Measured, measure_all, split

__all__ = ["FolderSource"]


class FolderSource(BridgeSource):
    """The samples that `cosmos data prepare folder` and `bridge` would give."""

    @staticmethod
    def read_index(config: BridgeConfig) -> ClipIndex:
        """Clips of the configured part. Raises UserError."""
        assert isinstance(config, FolderConfig)
        listing, drops = Listing.of(config.source), Drops()
        listed = listing.entries()
        training, held_out = split(listed, config.validation)
        entries = held_out if config.split == "val" else training
        if config.split == "train":
            listing.drop_unlisted(listed, drops)
        with progress("measuring", len(entries), "files") as measuring:
            measured = measure_all(entries, Cut(config.window, config.stride), drops, done=measuring.advance)
        clip_filter = ClipFilter(config.max_duration, config.min_short_edge, config.min_window_frames)
        return index_of(_records(measured), clip_filter, drops, f"{config.path} ({config.split})")


def _records(measured: Sequence[Measured]) -> list[tuple[ClipRecord, bytes]]:
    records = []
    for clip in measured:
        about = clip.record()
        windows = tuple(Window(index, start, end, 1) for index, (start, end) in enumerate(clip.windows))
        record = ClipRecord(
            uuid=clip.entry.key,
            path=clip.entry.path,
            width=clip.facts.width,
            height=clip.facts.height,
            duration=about["duration"],
            windows=windows,
            file=Path(clip.entry.file),
            offset=0,
            length=0,
            frames=clip.facts.frames,
            captions=tuple(about["t2w_windows"]),
        )
        records.append((record, json.dumps(about).encode()))
    return records
