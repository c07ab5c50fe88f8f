"""Every listed file measured, in parallel: windows, and why a file cannot be used."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

from attrs import frozen

from cosmos_core.data import UnreadableSample
from cosmos_core.data.dropped import Drops
from cosmos_core.data.video import check_decodes, probe
from cosmos_data_bridge.folder.entries import Entry

__all__ = ["Cut", "Measured", "measure_all", "split"]

MOST_ELONGATED = 10
"""Longest side in units of the shortest; little of a picture beyond it would remain after the crop."""


@frozen
class Cut:
    """How clips are cut into windows. window: frames of one, None for the whole clip. stride: from one to the next."""

    window: int | None = None
    stride: int | None = None

    def ranges(self, frames: int) -> list[tuple[int, int]]:
        """First and last frame of every window; none when the clip is shorter than one."""
        if self.window is None:
            return [(0, frames - 1)]
        step = self.stride or self.window
        return [(start, start + self.window - 1) for start in range(0, frames - self.window + 1, step)]


@frozen
class Measured:
    """An entry with the facts of its file and its windows."""

    entry: Entry
    width: int
    height: int
    frames: int
    fps: float
    windows: tuple[tuple[int, int], ...]

    def record(self) -> dict[str, Any]:
        """The record of a manifest, without the path."""
        return {
            "uuid": self.entry.key,
            "duration": self.frames / self.fps,
            "width": self.width,
            "height": self.height,
            "nb_frames": self.frames,
            "framerate": self.fps,
            "t2w_windows": [
                {"start_frame": start, "end_frame": end, "temporal_interval": 1, **self.entry.captions}
                for start, end in self.windows
            ],
        }


def measure_all(
    entries: Sequence[Entry], cut: Cut, drops: Drops, *, decode: bool = False, done: Callable[[], None] = lambda: None
) -> list[Measured]:
    """The usable entries, in order; others are counted in `drops`. decode: decode every frame too. done: after each."""

    def measure(entry: Entry) -> Measured | UnreadableSample:
        try:
            return _measure(entry, cut, decode=decode)
        except UnreadableSample as error:
            return error
        finally:
            done()

    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        results = list(pool.map(measure, entries))
    measured = []
    for result in results:
        if isinstance(result, Measured):
            measured.append(result)
        else:
            drops.add(result.reason, result.where, result.key)
    return measured


def _measure(entry: Entry, cut: Cut, *, decode: bool) -> Measured:
    """Raises UnreadableSample."""
    if not entry.path.stat().st_size:
        raise UnreadableSample(str(entry.path), "file is empty")
    timeline = check_decodes(entry.path) if decode else probe(entry.path)
    sides = sorted((timeline.width, timeline.height))
    if sides[1] > MOST_ELONGATED * sides[0]:
        raise UnreadableSample(str(entry.path), f"one side is more than {MOST_ELONGATED} times the other")
    windows = cut.ranges(timeline.frames)
    if not windows:
        raise UnreadableSample(str(entry.path), f"shorter than a window of {cut.window} frames", "window")
    return Measured(entry, timeline.width, timeline.height, timeline.frames, float(timeline.fps), tuple(windows))


def split(entries: Sequence[Entry], share: float) -> tuple[list[Entry], list[Entry]]:
    """Training and validation entries, by file: those whose keys' SHA-256 come first are held out."""
    count = min(max(1, round(len(entries) * share)), len(entries) - 1) if share else 0
    by_digest = sorted(entries, key=lambda entry: sha256(entry.key.encode()).digest())
    held_out = {entry.key for entry in by_digest[:count]}
    return [entry for entry in entries if entry.key not in held_out], [e for e in entries if e.key in held_out]
