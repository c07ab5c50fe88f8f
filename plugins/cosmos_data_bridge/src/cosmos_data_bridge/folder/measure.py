"""Every listed file measured, in parallel: windows, and why a file cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.config.cores import cores
from cosmos_core.data import UnreadableSample
from cosmos_core.data.dropped import Drops
from cosmos_core.data.video import Timeline, check_decodes, probe
from cosmos_data_bridge.folder.entries import Entry

__all__ = ["Cut", "Facts", "Measured", "decoded_facts", "measure_all", "split"]

MAX_ASPECT = 10
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
class Facts:
    """What a file is. width, height: upright."""

    width: int
    height: int
    frames: int
    fps: float


@frozen
class Measured:
    """An entry with the facts of its file and its windows."""

    entry: Entry
    facts: Facts
    windows: tuple[tuple[int, int], ...]

    def record(self) -> dict[str, Any]:
        """The record of a manifest, without the path."""
        return {
            "uuid": self.entry.key,
            "duration": self.facts.frames / self.facts.fps,
            "width": self.facts.width,
            "height": self.facts.height,
            "nb_frames": self.facts.frames,
            "framerate": self.facts.fps,
            "t2w_windows": [
                {"start_frame": start, "end_frame": end, "temporal_interval": 1, **self.entry.captions}
                for start, end in self.windows
            ],
        }


def _probed_facts(path: Path) -> Facts:
    """The facts of a file. Raises UnreadableSample."""
    return _facts(path, probe)


def decoded_facts(path: Path) -> Facts:
    """The same, after every frame was decoded. Raises UnreadableSample."""
    return _facts(path, check_decodes)


def measure_all(
    entries: Sequence[Entry],
    cut: Cut,
    drops: Drops,
    *,
    facts_of: Callable[[Path], Facts] = _probed_facts,
    done: Callable[[], None] = lambda: None,
) -> list[Measured]:
    """The usable entries, in order; others are counted in `drops`. facts_of: measures a file. done: after each."""

    def measure(entry: Entry) -> Measured | UnreadableSample:
        try:
            return _measure(entry, cut, facts_of(entry.path))
        except UnreadableSample as error:
            return error
        finally:
            done()

    with ThreadPoolExecutor(min(32, cores())) as pool:
        results = list(pool.map(measure, entries))
    measured = []
    for entry, result in zip(entries, results, strict=True):
        if isinstance(result, Measured):
            measured.append(result)
        else:
            drops.add(result.reason, entry.origin, result.key)
    return measured


def _facts(path: Path, timeline_of: Callable[[Path], Timeline]) -> Facts:
    timeline = timeline_of(path)
    return Facts(timeline.width, timeline.height, timeline.frames, float(timeline.fps))


def _measure(entry: Entry, cut: Cut, facts: Facts) -> Measured:
    """Raises UnreadableSample."""
    sides = sorted((facts.width, facts.height))
    if sides[1] > MAX_ASPECT * sides[0]:
        raise UnreadableSample(str(entry.path), f"one side is more than {MAX_ASPECT} times the other")
    windows = cut.ranges(facts.frames)
    if not windows:
        raise UnreadableSample(str(entry.path), f"shorter than a window of {cut.window} frames", "window")
    return Measured(entry, facts, tuple(windows))


def split(entries: Sequence[Entry], share: float) -> tuple[list[Entry], list[Entry]]:
    """Training and validation entries, by file: those whose keys' SHA-256 come first are held out."""
    count = min(max(1, round(len(entries) * share)), len(entries) - 1) if share else 0
    by_digest = sorted(entries, key=lambda entry: sha256(entry.key.encode()).digest())
    held_out = {entry.key for entry in by_digest[:count]}
    return [entry for entry in entries if entry.key not in held_out], [e for e in entries if e.key in held_out]
