"""Clips and manifests that are damaged or unusual: one reason everywhere, with the file or the line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cosmos_core.data import UnreadableSample, VideoText
from cosmos_core.errors import UserError
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.dataset import FolderSource
from cosmos_data_bridge.folder.listing import Source, list_entries
from tests.command import cosmos
from tests.ffmpeg import ffmpeg
from tests.folder_clips import FRAMES, prepare_here, records, small_video
from tests.unit.logged import logged

OPTIONS: dict[str, Any] = {"resolution": "64", "cfg_dropout_rate": 0.0, "min_window_frames": 1}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_video(tmp_path_factory.mktemp("video"))


def manifest(root: Path, lines: list[dict[str, Any]]) -> Path:
    (root / "train").mkdir(parents=True, exist_ok=True)
    path = root / "train/video_dataset_file.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def bridge(root: Path, **options: Any) -> BridgeSource:
    return BridgeSource(BridgeConfig(type="bridge", path=str(root), **{**OPTIONS, **options}))


def reason(source: BridgeSource, index: int) -> str:
    with pytest.raises(UnreadableSample) as refused:
        source.get(index, np.random.default_rng(0))
    return refused.value.reason


def test_an_empty_manifest_is_one_fault(tmp_path: Path) -> None:
    path = manifest(tmp_path, [])
    with pytest.raises(UserError, match="there is no clip in") as refused:
        bridge(tmp_path)
    assert str(path) in refused.value.title
    assert not refused.value.problems


def test_preparing_and_training_refuse_damaged_files_for_the_same_reason(tmp_path: Path, video: bytes) -> None:
    clips, root = tmp_path / "clips", tmp_path / "root"
    clips.mkdir()
    (tmp_path / "a.mp4").write_bytes(video)
    ffmpeg("-i", tmp_path / "a.mp4", "-c", "copy", "-movflags", "faststart", clips / "half.mp4")
    whole = (clips / "half.mp4").read_bytes()
    bad = {
        "half.mp4": whole[: whole.index(b"mdat") + (len(whole) - whole.index(b"mdat")) // 2],
        "header.mov": whole[: whole.index(b"mdat") - 4],
        "text.mp4": b"no video at all",
        "empty.mp4": b"",
        "cut.mp4": video[: len(video) // 2],
    }
    for name, content in {**bad, "good.mp4": video}.items():
        (clips / name).write_bytes(content)
        (clips / name).with_suffix(".txt").write_text("x")
    prepare_here(clips, tmp_path / "out")
    left_out = json.loads((tmp_path / "out/report.json").read_text())["left_out"]
    reasons = {Path(example).name: entry["reason"] for entry in left_out for example in entry["examples"]}
    assert reasons.keys() == bad.keys()
    manifest(root, [{"uuid": name, "vision_path": f"../../clips/{name}", "caption": "x"} for name in bad])
    source = bridge(root, media_roots=(str(clips),))
    for index in range(len(source)):
        name = source.key(index)
        assert reason(source, index) == reasons[name], name
    assert reasons["header.mov"] == "no frames"


def test_frames_that_a_sample_cannot_use_are_told_once(tmp_path: Path, video: bytes) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(video)
        (tmp_path / f"{name}.txt").write_text("x")
    with logged("cosmos_data_bridge") as lines:
        source = FolderSource(FolderConfig(type="folder", path=str(tmp_path), validation=0.0, **OPTIONS))
        assert [source.get(index, np.random.default_rng(0)).pixels().shape[1] for index in (0, 1)] == [9, 9]
        dropped = f"the last 6 of {2 * FRAMES} frames of all windows are dropped"
        assert lines == [f"folder: {dropped}, since a sample has 1 + 4n frames"]
        prepare_here(tmp_path, tmp_path / "out", window=9)
        bridge(tmp_path / "out", media_roots=(str(tmp_path),))
        assert len(lines) == 1
        manifest(tmp_path, [{"uuid": name, "vision_path": f"../{name}.mp4", "caption": "x"} for name in ("a", "b")])
        source = bridge(tmp_path)
        assert [source.get(index, np.random.default_rng(0)).pixels().shape[1] for index in (0, 1)] == [9, 9]
        told = f"{source.key(0)}_w0: the last 3 of its {FRAMES} frames are dropped, since a sample has 1 + 4n frames"
        assert lines[1:] == [told]


def test_grey_of_16_bits_keeps_its_levels(tmp_path: Path) -> None:
    pixels = np.repeat((np.arange(64) * 1024).astype(np.uint16)[None], 64, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("x")
    source = FolderSource(FolderConfig(type="folder", path=str(tmp_path), **OPTIONS))
    sample = source.get(0, np.random.default_rng(0))
    assert isinstance(sample, VideoText)
    assert np.abs(sample.pixels()[0, 0, 0].numpy().astype(int) - np.arange(64) * 4).max() <= 3


def test_wrong_facts_of_a_record_are_told_and_a_promise_that_the_file_breaks_is_refused(
    tmp_path: Path, video: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(video)
    window = {"start_frame": 0, "end_frame": 400, "caption": "x"}
    line = {"uuid": "a", "vision_path": "../a.mp4", "width": 1280, "height": 720, "duration": 0.5}
    manifest(tmp_path, [{**line, "t2w_windows": [window]}])
    bridge(tmp_path).get(0, np.random.default_rng(0))
    told = capsys.readouterr().err
    for words in ("size 1280 x 720, the file has 64 x 64", "duration 0.5 s", "a window ends at frame 400"):
        assert words in told
    promise = f"its record promises frames 0 to 400, the file has {FRAMES} frames"
    assert reason(bridge(tmp_path, min_window_frames=61), 0) == promise


def test_the_first_clip_whose_pixels_are_not_square_is_told(
    tmp_path: Path, video: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = manifest(tmp_path, [{"uuid": name, "vision_path": f"{name}.mp4", "caption": "x"} for name in "abc"]).parent
    (path / "a.mp4").write_bytes(video)
    for name in "bc":
        ffmpeg("-i", path / "a.mp4", "-c", "copy", "-aspect", "16:9", path / f"{name}.mp4")
    source = bridge(tmp_path)
    for index in range(3):
        source.get(index, np.random.default_rng(0))
    told = capsys.readouterr().err
    assert told.count("looks squeezed, perhaps others too: its pixels are 16:9, and count as square") == 1


def test_a_dry_run_refuses_every_bad_line_of_a_manifest(tmp_path: Path, video: bytes) -> None:
    """Captions that are none, rows without windows, a link that leads out: each with its line, in one error."""
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.mp4").write_bytes(video)
    (tmp_path / "root/link.mp4").symlink_to(tmp_path / "elsewhere/a.mp4")
    (tmp_path / "root/a.mp4").write_bytes(video)
    good = {"uuid": "a", "vision_path": "../a.mp4", "caption": "x"}
    rewritten = {"uuid": "b", "vision_path": "../a.mp4", "qwen3_32b_rewrite-dense": "x"}
    window = {"start_frame": 0, "end_frame": 8}
    faults = {
        "field 't2w_windows' is missing": {"uuid": "a", "vision_path": "../a.mp4"},
        "'caption' is neither text nor an object: ['a', 'b']": {**good, "caption": ["a", "b"]},
        "'caption' is blank": {**good, "caption": "   "},
        "uuid 'a\\x00' holds a NUL character": {**good, "uuid": "a\0"},
        "'caption' holds a NUL character": {**good, "caption": "a\0b"},
        "t2w_windows[0]: 'caption' is blank": {**good, "t2w_windows": [{**window, "caption": "\u3000\u200b."}]},
        "no caption is called captions or caption_en": {**good, "caption": None, "captions": ["x"], "caption_en": "x"},
        "and so are the fields of a caption": {"uuid": "a", "vision_path": "../a.mp4", "text": "x"},
        "is an address; only files are read": {**good, "vision_path": "s3://bucket/a.mp4"},
        "the link ": {**good, "vision_path": "../link.mp4"},
    }
    index = manifest(tmp_path / "root", [good, rewritten, *faults.values()])
    words = ("run", "vision_sft_demo", "--dry-run", f"dataloader_train.dataset.path={tmp_path / 'root'}")
    told = cosmos(*words, cwd=tmp_path, code=2).stderr
    assert "Traceback" not in told
    joined = " ".join(told.split())
    for line, fault in enumerate(faults, start=3):
        assert f"{index}:{line} " in told
        assert fault in joined
    assert f'media_roots = ["{tmp_path / "elsewhere"}"] allows it' in joined
    with pytest.raises(UserError, match=f"{len(faults)} bad lines"):
        bridge(tmp_path / "root")


def test_a_path_above_its_table_is_copied_into_the_dataset(tmp_path: Path, video: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(video)
    table = tmp_path / "deep/er/list.csv"
    table.parent.mkdir(parents=True)
    table.write_text("video,text\n../../a.mp4,x\n")
    prepare_here(table, tmp_path / "out", copy=True)
    (record,) = records(tmp_path / "out")
    path = (tmp_path / "out/train" / record["vision_path"]).resolve()
    assert path.is_relative_to(tmp_path / "out/media")
    assert path.read_bytes() == video


def test_a_long_caption_is_read_and_a_cell_that_never_ends_is_named_with_its_line(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    (tmp_path / "a.mp4").write_bytes(b"")
    table.write_text(f'video,text\na.mp4,"{"x" * 140_000}"\n')
    (entry,) = list_entries(Source(table))
    assert len(entry.captions["caption"]) == 140_000
    table.write_text('video,text\na.mp4,"' + "x" * 140_000)
    with pytest.raises(UserError) as refused:
        prepare_here(table, tmp_path / "out")
    (problem,) = refused.value.problems
    assert (problem.file, problem.line) == (str(table), 2)
    assert "never closed" in problem.message


def test_captions_of_a_record_that_changed_after_it_was_listed_are_not_trained_on(tmp_path: Path, video: bytes) -> None:
    """Lines that change places may be as long as each other."""
    lines = [{"uuid": name, "vision_path": f"{name}.mp4", "caption": f"a {name}"} for name in ("cat", "dog")]
    path = manifest(tmp_path, lines)
    for name in ("cat", "dog"):
        (path.parent / f"{name}.mp4").write_bytes(video)
    source = bridge(tmp_path)
    assert all(f"a {source.key(index)}" in source.get(index, np.random.default_rng(0)).caption for index in (0, 1))
    manifest(tmp_path, lines[::-1])
    assert {reason(source, index) for index in (0, 1)} == {"its record changed since the file was listed"}
