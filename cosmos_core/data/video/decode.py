"""Frames of a video by number.

Frame i is the i-th that a decoder delivers from the start of the file, wherever decoding begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video.container import OpenVideo, open_video, reading
from cosmos_core.data.video.convert import Convert, rgb_converter
from cosmos_core.data.video.timeline import Timeline, probe

__all__ = ["Frames", "check_decodes", "decode_frames", "frames_by_number"]

Frames = NDArray[np.uint8]
"""[T, H, W, 3], RGB."""

SEEKS = 2
"""Key frames tried before decoding from the start."""


def decode_frames(path: Path, numbers: Sequence[int]) -> Frames:
    """The frames with these increasing numbers, at the size of the first, upright. Raises UnreadableSample."""
    timeline = probe(path)
    # Frames that change size within a file get that of the first one, as with the ffmpeg program.
    size = f"{timeline.width}:{timeline.height}"
    return np.stack(frames_by_number(path, timeline, numbers, lambda video: rgb_converter(video, timeline.turns, size)))


def check_decodes(path: Path) -> Timeline:
    """The timeline, after every frame was decoded. Raises UnreadableSample."""
    timeline = probe(path)
    with open_video(path) as video, reading(path, "damaged video"):
        frames = [frame.is_corrupt for frame in video.frames()]
    damaged = [number for number, is_corrupt in enumerate(frames) if is_corrupt and number != timeline.last_decoded]
    if damaged:
        raise _damaged(path, damaged[0])
    if len(frames) < timeline.frames:
        raise UnreadableSample(str(path), f"{len(frames)} of {timeline.frames} frames can be decoded")
    return timeline


def frames_by_number(
    path: Path, timeline: Timeline, numbers: Sequence[int], converter: Callable[[OpenVideo], Convert]
) -> list[NDArray[np.uint8]]:
    """The converted frames with these increasing numbers. Raises UnreadableSample, also for a number the file lacks.

    converter: makes the conversion for an opened file.
    """
    if not numbers:
        return []
    if numbers[-1] >= timeline.frames:
        raise UnreadableSample(str(path), f"frame {numbers[-1]} was asked for, the file has {timeline.frames}")
    starts = [*timeline.key_times_before(numbers[0])[:SEEKS], None] if timeline.seekable else [None]
    for start in starts:
        with open_video(path) as video, reading(path, "damaged video"):
            numbered = _from_start(video) if start is None else _from_key(video, start, timeline, numbers[0])
            frames, damaged = _select(numbered, numbers, converter(video), timeline.last_decoded)
        if len(frames) == len(numbers):
            return frames
    if damaged is not None:
        raise _damaged(path, damaged)
    raise UnreadableSample(str(path), f"{len(frames)} of {len(numbers)} frames can be decoded")


def _select(
    numbered: Iterator[tuple[int, Any]], numbers: Sequence[int], convert: Convert, last_decoded: int
) -> tuple[list[NDArray[np.uint8]], int | None]:
    """The frames asked for, until the last of them; fewer when decoding ended earlier, or damage reaches one of them.

    The number of the damaged frame is the second value: the decoder makes up what it lacks, and the frames from it to
    the next key frame are made from it. last_decoded: see Timeline.
    """
    frames: list[NDArray[np.uint8]] = []
    damaged: int | None = None
    for number, frame in numbered:
        if frame.key_frame and frame.pict_type == PictureType.I:  # Recordings that refresh bit by bit have others.
            damaged = None
        if frame.is_corrupt and number != last_decoded and damaged is None:
            damaged = number
        if number == numbers[len(frames)]:
            if damaged is not None:
                return frames, damaged
            frames.append(convert(frame))
            if len(frames) == len(numbers):
                break
    return frames, None


def _damaged(path: Path, number: int) -> UnreadableSample:
    return UnreadableSample(str(path), f"frame {number} is damaged")


def _from_start(video: OpenVideo) -> Iterator[tuple[int, Any]]:
    return zip(count(), video.frames(), strict=False)


def _from_key(video: OpenVideo, start: int, timeline: Timeline, first: int) -> Iterator[tuple[int, Any]]:
    """Frames after a seek, numbered by their times.

    Ends early when the seek landed behind frame `first`, or a frame comes whose time is not the one expected. Empty
    where the container has no index to seek by, as of raw streams.
    """
    try:
        video.seek(start)
    except (av.FFmpegError, OSError, ValueError):
        return
    number: int | None = None
    for frame in video.frames():
        if number is None:
            number = int(np.searchsorted(timeline.times, frame.pts)) if frame.pts is not None else timeline.frames
            if number > first:
                return
        if number >= timeline.frames or frame.pts != timeline.times[number]:
            return
        yield number, frame
        number += 1
