"""What a record says of its clip, beside what the file is."""

from __future__ import annotations

from cosmos_core.data.jsonl import ClipRecord
from cosmos_core.data.video import Timeline

__all__ = ["differences"]

SECONDS, FRAMES = 0.1, 2
"""Largest difference of a duration; programs disagree about when the last frame ends."""


def differences(clip: ClipRecord, timeline: Timeline) -> list[str]:
    """Each fact that differs from the file, with both values."""
    duration = timeline.frames / float(timeline.fps)
    size = (clip.width or timeline.width, clip.height or timeline.height)
    texts = []
    if size != (timeline.width, timeline.height):
        texts.append(f"size {size[0]} x {size[1]}, the file has {timeline.width} x {timeline.height}")
    if clip.duration is not None and abs(clip.duration - duration) > max(SECONDS, FRAMES / float(timeline.fps)):
        texts.append(f"duration {clip.duration:g} s, the file has {duration:.2f} s")
    if clip.frames not in (None, timeline.frames):
        texts.append(f"{clip.frames} frames, the file has {timeline.frames}")
    ends = [window.end for window in clip.windows if window.end is not None and window.end >= timeline.frames]
    if ends:
        texts.append(f"a window ends at frame {max(ends)}, the file has {timeline.frames} frames")
    return texts
