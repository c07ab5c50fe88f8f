"""Frames of damaged files: what a decoder made up is in no sample, and all others can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attrs import evolve

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import check_decodes, decode_frames, probe
from cosmos_core.data.video.convert import rgb_converter
from cosmos_core.data.video.decode import frames_by_number
from tests.unit.data.test_every_frame import WINDOW, X264, drawn, made


def test_no_window_has_frames_that_a_decoder_made_up(tmp_path: Path) -> None:
    """Those before the damage and after the next key frame are as they were."""
    whole = made(tmp_path, "groups.mp4", drawn(4) + f" {X264} -g 25 -bf 0")
    content, path = bytearray(whole.read_bytes()), tmp_path / "hole.mp4"
    place = content.index(b"mdat") + len(content) // 2
    content[place : place + 60] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(UnreadableSample, match=r"frame \d+ is damaged") as refused:
        check_decodes(path)
    number = int(refused.value.reason.split()[1])
    with pytest.raises(UnreadableSample, match=refused.value.reason):
        decode_frames(path, [number + 1])
    for start in (0, 25 * (number // 25 + 1)):
        window = range(start, start + WINDOW)
        assert np.array_equal(decode_frames(path, window), decode_frames(whole, window))
        # Also where every window is decoded from the start of the file.
        timeline = evolve(probe(path), seekable=False)
        read = frames_by_number(path, timeline, window, lambda video: rgb_converter(video, (), "64:48"))
        assert np.array_equal(read, decode_frames(whole, window))


def test_a_recording_may_end_in_the_middle_of_any_frame(tmp_path: Path) -> None:
    """The frame that is cut is the last to be decoded, and with B-frames not always the last to be shown."""
    content = made(tmp_path, "open.ts", drawn(2) + f" {X264} -x264-params keyint=25:bframes=4").read_bytes()
    path, shown_later = tmp_path / "ended.ts", 0
    for packets in range(len(content) // 188 // 2, len(content) // 188 - 1):
        path.write_bytes(content[: packets * 188])
        timeline = check_decodes(path)
        shown_later += timeline.last_decoded < timeline.frames - 1
        assert len(decode_frames(path, range(timeline.frames))) == timeline.frames
    assert shown_later
