"""Damaged video files give frames or one UnreadableSample, whatever FFmpeg makes of them.

`COSMOS_FUZZ=10000` (or `make fuzz`) runs that many cases.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import decode, decode_frames, probe, write_mp4

CASES = int(os.environ.get("COSMOS_FUZZ", "1000"))
FRAMES, SIZE = 8, 64
ABSURD = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\x00\x00")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole mp4 of noise that moves; its header is more than a third of it."""
    path = tmp_path_factory.mktemp("whole") / "clip.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    write_mp4(path, np.stack([np.roll(noise, 4 * step, axis=1) // 8 + 100 for step in range(FRAMES)]), 2)
    return path.read_bytes()


def damaged(video: bytes, chance: random.Random) -> bytes:
    """What a lost connection, a bad disk or a careless tool leaves of it."""
    found = bytearray(video)
    kind = chance.randrange(6)
    at = chance.randrange(len(found))
    header = chance.randrange(found.index(b"moov"), len(found) - 4)
    if kind == 0:
        for _ in range(chance.randint(1, 20)):
            found[chance.randrange(len(found))] ^= 1 << chance.randrange(8)
    elif kind == 1:
        del found[at:]
    elif kind == 2:
        found[at : at + 64] = chance.randbytes(len(found[at : at + 64]))
    elif kind == 3:
        found[header : header + 4] = chance.choice(ABSURD)
    elif kind == 4:
        for _ in range(chance.randint(1, 5)):
            found[chance.randrange(header, len(found))] = chance.randrange(256)
    else:
        del found[at : at + chance.randint(1, 64)]
    return bytes(found)


def outcome(read: Callable[[], np.ndarray], frames: int) -> str:
    try:
        found = read()
    except UnreadableSample as refused:
        return refused.reason
    assert found.dtype == np.uint8
    assert (found.shape[0], found.shape[-1]) == (frames, 3)
    return "frames"


def test_damage_gives_frames_or_a_reason(video: bytes, tmp_path: Path) -> None:
    path, seen = tmp_path / "clip.mp4", Counter[str]()
    for case in range(CASES):
        path.write_bytes(damaged(video, random.Random(case)))
        try:
            assert probe(path).frames >= 0
        except UnreadableSample as refused:
            seen[refused.reason] += 1
        seen[outcome(lambda: decode_frames(path, [0, 3, 7]), 3)] += 1
        seen[outcome(lambda: decode(path, 2, 7, 1, target=(32, 32)), 6)] += 1
    assert seen["frames"] >= CASES / 4
    assert seen["not a video (InvalidDataError)"] >= CASES / 20
    assert len(seen) >= 6, seen


@pytest.mark.parametrize(
    ("atom", "place", "number", "reason"),
    [
        pytest.param("stsd", 12, 0x7FFFFFFF, "not a video", id="EOFError"),
        pytest.param("mdia", 12, 0x7FFFFFFF, "not a video", id="PatchWelcomeError"),
        pytest.param("stts", 8, 0x7FFFFFFF, "not a video", id="MemoryError"),
        pytest.param("hdlr", -4, 0, "no decoder for its video", id="no codec context"),
        pytest.param("moov", 4, 0xFFFFFFFF, "no video stream", id="no stream"),
    ],
)
def test_each_kind_of_damaged_header_has_its_reason(
    atom: str, place: int, number: int, reason: str, video: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(patched(video, atom, place, number))
    for read in (probe, lambda path: decode_frames(path, [0]), lambda path: decode(path, 0, 0, 1, target=(32, 32))):
        with pytest.raises(UnreadableSample) as refused:
            read(path)
        assert refused.value.where == str(path)
        assert refused.value.reason.startswith(reason)


def patched(video: bytes, atom: str, place: int, number: int) -> bytes:
    """A 32-bit number put so many bytes after the beginning of an atom's name."""
    at = video.index(atom.encode()) + place
    return video[:at] + number.to_bytes(4, "big") + video[at + 4 :]


def test_a_header_that_promises_more_frames_than_the_file_holds_is_not_believed(video: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(patched(video, "stts", 12, 0xFFFFFFFF))
    assert probe(path).frames == FRAMES
    assert decode_frames(path, [0, 7]).shape == (2, SIZE, SIZE, 3)


def test_frames_that_would_fill_the_memory_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("qtrle", rate=2)
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((SIZE, SIZE, 3), np.uint8))))
        container.mux(stream.encode())
    whole = path.read_bytes()
    # The sample entry follows the name of its table by 12 bytes; it holds width and height 32 bytes on.
    path.write_bytes(patched(whole, "stsd", 12 + 32, 16000 << 16 | 16000))
    with pytest.raises(UnreadableSample, match="frames of 16000 x 16000 pixels are too large"):
        decode_frames(path, [0])


def test_frames_whose_size_changes_midway_get_that_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "clip.h264"
    parts = []
    for size in (SIZE, 2 * SIZE):
        with av.open(str(path), "w", format="h264") as container:
            stream = container.add_stream("libx264", rate=2, options={"threads": "1"})
            stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((size, size, 3), np.uint8))))
            container.mux(stream.encode())
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    assert decode_frames(path, [0, 1]).shape == (2, SIZE, SIZE, 3)


def test_a_title_that_is_not_utf8_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a fall"
        stream = container.add_stream("libx264", rate=2, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = SIZE, SIZE, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((SIZE, SIZE, 3), np.uint8))))
        container.mux(stream.encode())
    whole = path.read_bytes()
    assert b"a fall" in whole
    path.write_bytes(whole.replace(b"a fall", b"a f\xe9ll"))
    assert decode_frames(path, [0]).shape == (1, SIZE, SIZE, 3)
