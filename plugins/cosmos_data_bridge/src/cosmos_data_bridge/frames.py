"""The frames of a window that are read (docs/data.md, Frame selection)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from attrs import frozen

from cosmos_core.data import UnreadableSample
from cosmos_core.data.jsonl import Window
from cosmos_core.data.video import Timeline
from cosmos_data_bridge.config import BridgeConfig

__all__ = ["Selection", "select", "used_frames"]

TEMPORAL_COMPRESSION = 4


@frozen
class Selection:
    """Frames first, first + step, ...; count is 1 + 4n."""

    first: int
    step: int
    count: int

    @property
    def last(self) -> int:
        """The last frame read."""
        return self.first + (self.count - 1) * self.step


def select(
    window: Window, timeline: Timeline, config: BridgeConfig, key: str, random: np.random.Generator
) -> Selection:
    """Frames of a sample. Raises UnreadableSample when the window is too short for the settings."""
    end = timeline.frames - 1 if window.end is None else min(window.end, timeline.frames - 1)
    span = end - window.start + 1
    if span < max(1, config.min_window_frames):
        last = "the last" if window.end is None else window.end
        raise UnreadableSample(
            key,
            f"its record promises frames {window.start} to {last}, the file has {timeline.frames} frames",
            "min_window_frames",
        )
    if config.num_video_frames == -1:
        return Selection(window.start, window.interval, _whole_chunks(1 + (span - 1) // window.interval))
    count = config.num_video_frames
    step = _step(config, float(timeline.fps), span)
    need = (count - 1) * step + 1
    if span < need:
        raise UnreadableSample(key, f"window is too short for {count} frames", "num_video_frames")
    spare = span - need
    offset = {"first": 0, "center": spare // 2, "random": int(random.integers(0, spare + 1))}
    return Selection(window.start + offset[config.frame_selection_mode], step, _whole_chunks(count))


def used_frames(windows: Iterable[Window], config: BridgeConfig) -> tuple[int, int]:
    """Frames that samples of whole windows use, and how many there are; of windows whose length the record tells."""
    lengths = [1 + (window.frames - 1) // window.interval for window in windows if window.frames is not None]
    if config.num_video_frames != -1:
        return 0, 0
    return sum(map(_whole_chunks, lengths)), sum(lengths)


def _step(config: BridgeConfig, fps: float, span: int) -> int:
    steps = {
        "force_one": 1,
        "max_30fps": max(1, int(fps / 30)),
        "entire_chunk": max(1, span // config.num_video_frames),
    }
    return steps[config.temporal_interval_mode]


def _whole_chunks(count: int) -> int:
    """Largest 1 + 4n that is not above `count`."""
    return TEMPORAL_COMPRESSION * ((count - 1) // TEMPORAL_COMPRESSION) + 1
