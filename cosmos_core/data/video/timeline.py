"""How many frames a video has and when each is shown, measured over the file and not taken from its header."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from cosmos_core.data.files import stand_in
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video.container import NO_VIDEO, OpenVideo, open_video, reading
from cosmos_core.data.video.convert import check_colours
from cosmos_core.data.video.cut_short import lacks_frames, lacks_index
from cosmos_core.data.video.matroska import missing_part
from cosmos_core.data.video.orientation import Filters, filters, picture_filters

__all__ = ["Timeline", "probe"]

logger = logging.getLogger(__name__)

Times = NDArray[np.int64]
"""Presentation times in the stream's time base, increasing."""

REMEMBERED = 4096
"""Files whose timelines a process keeps."""
TOLERANCE = 1
"""Ticks by which the times of a constant rate may be off, since containers round them."""
EXACT_RATES = 1001
"""Largest denominator of a measured rate, as of 30000/1001."""
FIRSTS = 2
"""Frames that are decoded to compare their times with those of the packets."""
JUMP_BACK, JUMP_AHEAD = 1, 10
"""Seconds beyond which a step is a jump of the clock; the second one is that of the ffmpeg program."""


@frozen
class Timeline:
    """The frames of a file, in the order in which a decoder delivers them from the start.

    fps: exact rate where it is constant, else the mean rate. width, height: as shown, after rotation.
    """

    frames: int
    fps: Fraction
    width: int
    height: int
    times: Times = field(repr=False, eq=False)
    """As the decoder gives them."""
    shown: Times = field(repr=False, eq=False)
    """The same, where the container knows no better."""
    time_base: Fraction = field(repr=False)
    seekable: bool = field(repr=False)
    """Whether every frame's time tells its number, so that decoding may begin at a key frame."""
    key_times: Times = field(repr=False, eq=False)
    turns: Filters = field(repr=False)
    last_decoded: int
    """The frame that the last packet holds, which is seldom whole where a recording ends; no other is made from it."""
    pixel_ratio: Fraction = Fraction(1)
    """Width of a pixel in units of its height, before rotation. Nothing here makes pixels square."""

    def seconds(self, number: int) -> float:
        """When frame `number` is shown, counted from the first one."""
        return float((int(self.shown[number]) - int(self.shown[0])) * self.time_base)

    def key_times_before(self, number: int) -> Sequence[int]:
        """Times of key frames at or before frame `number`, the nearest first, without the file's first."""
        before = self.key_times[self.key_times <= self.times[number]]
        return [int(time) for time in before[:0:-1]]


@frozen
class _Packets:
    """What one pass over the packets tells."""

    times: list[int | None]
    grid: list[int | None]
    """When each packet is decoded."""
    keys: list[int]
    whole: bool
    """Whether every packet holds one shown frame, as far as packets tell."""
    firsts: list[Any]
    """The first decoded frames, at most two."""


def probe(path: Path) -> Timeline:
    """The timeline of a file. Raises UnreadableSample."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        raise UnreadableSample(str(path), "file is missing") from None
    try:
        return _measured(path, about.st_size, about.st_mtime_ns)
    except UnreadableSample as error:
        raise UnreadableSample(str(path), _cause(path, error.reason) if path.is_file() else error.reason) from None


def _cause(path: Path, reason: str) -> str:
    """Why a file cannot be read: the reason given, or what its bytes tell better."""
    with reading(path, reason):
        if not path.stat().st_size:
            return "file is empty"
        if words := stand_in(path):
            return f"it is {words}"
        if reason.startswith(NO_VIDEO) and lacks_index(path):
            return "its index (moov) is missing: it was cut short, or never finished"
    return reason


@lru_cache(maxsize=REMEMBERED)
def _measured(path: Path, size: int, changed: int) -> Timeline:
    with open_video(path) as video, reading(path, "damaged video"):
        missing = missing_part(path) if "matroska" in video.container.format.name else None
        if missing == "frames" or lacks_frames(path, video.container.format.name):
            raise UnreadableSample(str(path), "its end is missing: the file is shorter than its header says")
        if missing == "index":
            logger.warning("%s was cut after its last frame; it is read without its index", path)
        packets = _scan(video)
        if not packets.firsts:
            reason = f"no frame of its {video.stream.codec_context.name} can be decoded"
            reason += "; if it is whole, convert it to PNG or JPEG" if video.is_picture else ""
            raise UnreadableSample(str(path), reason if packets.times else "no frames")
        first = packets.firsts[0]
        check_colours(video, first, path)
        pixel_ratio = video.stream.sample_aspect_ratio or Fraction(1)
        times = _packet_times(packets)
        is_avi = video.container.format.name == "avi"
        # After a seek, a palette that came with an earlier packet is not known, and AVI counts packets by its index,
        # which may have some that are damaged in the file.
        has_all = not is_avi or len(video.stream.index_entries) == len(packets.times)
        seekable = times is not None and has_all and first.format.name != "pal8"
        may_jump = video.may_jump
        rates = (video.stream.base_rate, video.stream.average_rate, video.stream.guessed_rate)
        time_base = video.stream.time_base or Fraction(1, 1000)
        width, height = first.width, first.height
        turns = picture_filters(path) if video.is_picture else filters(first, path)
    if times is None:
        times, time_base = _decoded_times(path, packets, time_base, rates[2] or rates[1])
    if not len(times):
        raise UnreadableSample(str(path), "no frame can be decoded")
    with reading(path, "damaged video"):
        shown = _grid_times(packets, times) if is_avi else times
        shown = _without_jumps(shown, time_base) if may_jump else shown
        fps = _rate(shown, time_base, rates)
    if any(name == "transpose" for name, _ in turns):
        width, height = height, width
    keys = np.array(sorted(packets.keys) if seekable else [], np.int64)
    last = _last_decoded(packets, times)
    return Timeline(len(times), fps, width, height, times, shown, time_base, seekable, keys, turns, last, pixel_ratio)


def _scan(video: OpenVideo) -> _Packets:
    """Times of all packets; decodes until two frames came, or one that cannot be decoded follows the first."""
    times: list[int | None] = []
    grid: list[int | None] = []
    keys: list[int] = []
    whole = video.stream.codec_context.name != "vp8"  # VP8 has packets that are not shown.
    firsts: list[Any] = []
    decoding = True
    for packet in video.packets():
        if decoding:
            found = _decoded(packet)
            firsts += found or []
            decoding = len(firsts) < FIRSTS and not (firsts and found is None)
        if not packet.size:
            whole &= packet.pts is None
            continue
        whole &= not packet.is_corrupt
        if packet.is_discard:
            continue
        times.append(packet.pts)
        grid.append(packet.dts)
        if packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
    return _Packets(times, grid, keys, whole, firsts[:FIRSTS])


def _decoded(packet: Any) -> list[Any] | None:
    """The frames that the decoder delivers; None for a packet that cannot be decoded."""
    try:
        return list(packet.decode())
    except (ValueError, NotImplementedError, av.PatchWelcomeError):
        return None


def _last_decoded(packets: _Packets, times: Times) -> int:
    """The frame of the last packet, by its time; the last frame where that tells nothing."""
    last = packets.times[-1]
    found = times[:0] if last is None else np.flatnonzero(times == last)
    return int(found[-1]) if len(found) else len(times) - 1


def _packet_times(packets: _Packets) -> Times | None:
    """The frames' times, where the packets prove them: one time each, and the first two frames have the first ones.

    Where the clock goes back, frames do not come in the order of their times. Where a stream was cut at a key frame,
    the frames that are shown before it are not delivered; a copy may have given them times between the first two.
    """
    known = [time for time in packets.times if time is not None]
    if not packets.whole or len(known) < len(packets.times) or len(set(known)) < len(known):
        return None
    if any(after < before for before, after in pairwise(place for place in packets.grid if place is not None)):
        return None
    times = np.array(sorted(known), np.int64)
    proven = len(times) and all(frame.pts == time for frame, time in zip(packets.firsts, times, strict=False))
    return times if proven else None


def _grid_times(packets: _Packets, times: Times) -> Times:
    """The frames' times in an AVI file, which has its packets on a grid.

    Where the packets' own times are guessed from their order, they are late after a gap. A frame is then shown when the
    packet is decoded that makes the decoder deliver it; for the last frames there is no such packet.
    """
    grid = [place for place in packets.grid if place is not None]
    if packets.times != times.tolist() or len(grid) < len(times) or packets.firsts[0].dts not in grid:
        return times
    late = grid.index(packets.firsts[0].dts)
    return np.array([*grid[late:], *range(grid[-1] + 1, grid[-1] + 1 + late)], np.int64)


def _without_jumps(times: Times, time_base: Fraction) -> Times:
    """The same, with a usual step where the clock jumps, as where recordings were joined byte by byte."""
    steps = np.diff(times)
    jumps = (steps < -JUMP_BACK / time_base) | (steps > JUMP_AHEAD / time_base)
    if not jumps.any():
        return times
    steps[jumps] = int(np.median(steps))
    return np.concatenate([times[:1], times[0] + np.cumsum(steps)])


def _decoded_times(path: Path, packets: _Packets, time_base: Fraction, rate: Fraction | None) -> tuple[Times, Fraction]:
    """The frames' times by decoding the whole file, and their time base. Raises UnreadableSample."""
    with open_video(path) as video, reading(path, "damaged video"):
        times = [frame.pts for frame in video.frames()]
        may_jump = video.may_jump
    known = [time for time in times if time is not None]
    if may_jump and len(known) == len(times):
        known = _without_jumps(np.array(known, np.int64), time_base).tolist()
    rises = len(known) < 2 or known[0] < known[-1]
    if len(known) < len(times) or not rises or any(after < before for before, after in pairwise(known)):
        # The decoder's own times are not usable; those of the packets may be, sorted.
        known = sorted({time for time in packets.times if time is not None})
    if len(known) == len(times):
        return np.array(known, np.int64), time_base
    if not rate:
        raise UnreadableSample(str(path), "no frame rate")
    return np.arange(len(times), dtype=np.int64), 1 / Fraction(rate)


def _rate(times: Times, time_base: Fraction, stated: Sequence[Fraction | None]) -> Fraction:
    """A rate that all times agree with, a stated one if possible; else the mean rate."""
    rates = [Fraction(rate) for rate in stated if rate and rate > 0]
    if len(times) == 1:
        return rates[0] if rates else Fraction(1)
    mean = Fraction(len(times) - 1, int(times[-1]) - int(times[0])) / time_base
    for rate in (*rates, max(mean.limit_denominator(EXACT_RATES), Fraction(1, EXACT_RATES))):
        expected = np.arange(len(times)) * float(1 / (rate * time_base))
        if np.abs(times - times[0] - expected).max() <= TOLERANCE:
            return rate
    return mean
