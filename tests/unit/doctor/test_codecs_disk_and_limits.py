"""Codecs, the disk and the limits of the system pass here; frames in the wrong order and full disks do not."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import pytest

from cosmos_core.data.video import Frames, decode_frames
from cosmos_core.doctor.codecs import CODECS, Codec, check_codec
from cosmos_core.doctor.disk import check_disk
from cosmos_core.doctor.machine import check_open_files, check_shared_memory

MIB = 2**20
H264 = CODECS[0]


def frames_swapped(path: Path, numbers: Sequence[int]) -> Frames:
    frames = decode_frames(path, numbers)
    return frames[[0, 2, 1, *range(3, len(frames))]]


def colours_swapped(path: Path, numbers: Sequence[int]) -> Frames:
    return decode_frames(path, numbers)[..., ::-1]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
def test_what_is_encoded_is_decoded(codec: Codec) -> None:
    result = check_codec(codec)
    assert result.status == "ok", result


@pytest.mark.parametrize("decode", [frames_swapped, colours_swapped])
def test_wrong_frames_are_found(decode: object) -> None:
    result = check_codec(H264, decode)  # type: ignore[arg-type]
    assert result.status == "broken"
    assert "frame" in result.message


def test_a_frame_too_few_is_found() -> None:
    result = check_codec(H264, lambda path, numbers: decode_frames(path, numbers[:-1]))
    assert (result.status, result.message) == ("broken", "decoded to (11, 96, 128, 3) instead of (12, 96, 128, 3)")


def test_a_missing_decoder_is_broken_only_where_it_is_needed() -> None:
    assert check_codec(Codec("nothing", ())).status == "note"
    assert check_codec(Codec("nothing", (), needed=True)).status == "broken"
    untested = check_codec(Codec("hevc", ("no_such_encoder",)))
    assert (untested.status, "not tested" in untested.message) == ("note", True)


def test_the_disk_is_measured_and_left_as_it_was(tmp_path: Path) -> None:
    result = check_disk(tmp_path / "not" / "there" / "yet", 16 * MIB)
    assert result.status in ("ok", "note")
    assert "a checkpoint of 120 GB: " in result.message
    assert float(result.data["write_mb_per_second"]) > 0
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    result = check_disk(tmp_path / "file", 16 * MIB)
    assert result.status == "broken"
    assert "Not a directory" in result.message
    assert "IMAGINAIRE_OUTPUT_ROOT" in result.hint


def test_a_disk_that_fills_up_is_broken(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    try:
        result = check_disk(tmp_path, 16 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.status, "File too large" in result.message) == ("broken", True)
    assert not list(tmp_path.iterdir())


def test_few_open_files_and_no_shared_memory_are_notes_with_a_way_out(tmp_path: Path) -> None:
    assert "ulimit -n" in check_open_files(fewest=2**40).hint
    assert check_open_files(fewest=1).status == "ok"
    assert check_shared_memory(tmp_path / "missing").status == "note"
