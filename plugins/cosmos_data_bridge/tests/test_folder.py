"""`cosmos data prepare folder` and the dataset `folder`: clips of one's own, and every kind of bad input."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import write_mp4
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.dataset import FolderSource
from tests.command import cosmos

FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("video") / "a.mp4"
    frames = np.empty((FRAMES, 64, 64, 3), np.uint8)
    frames[:] = (20 + 15 * np.arange(FRAMES))[:, None, None, None]
    write_mp4(path, frames, 10)
    return path.read_bytes()


@pytest.fixture
def clips(tmp_path: Path, video: bytes) -> Path:
    """Three videos and a picture, each with a caption."""
    root = tmp_path / "my clips"
    (root / "sub").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "sub/c.mp4"):
        (root / name).write_bytes(video)
    Image.new("RGB", (64, 48), (200, 30, 30)).save(root / "d.png")
    (root / "a.txt").write_bytes(b"\xef\xbb\xbfa cat\r\n")
    (root / "b.json").write_text('{"caption": "a dog"}')
    (root / "sub/c.json").write_text('{"subjects": [{"description": "a hen"}]}')
    (root / "d.txt").write_text("a red wall")
    return root


def prepared(source: Path, out: Path, *options: str) -> str:
    return cosmos("data", "prepare", "folder", str(source), "-o", str(out), *options).stdout


def refused(source: Path, out: Path, *options: str) -> str:
    stderr = cosmos("data", "prepare", "folder", str(source), "-o", str(out), *options, code=2).stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    return stderr


def records(out: Path, split: str = "train") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / split / "video_dataset_file.jsonl").read_text().splitlines()]


def captions(source: BridgeSource) -> dict[str, str]:
    samples = [source.get(index, np.random.default_rng(0)) for index in range(len(source))]
    return {sample.key: sample.caption for sample in samples}


PLAIN: dict[str, Any] = {
    "resolution": "64", "cfg_dropout_rate": 0.0, "append_duration_fps_timestamps": False,
    "append_resolution_info": False, "min_window_frames": 1,
}  # fmt: skip
CAPTIONS = {
    "a_w0": "a cat.", "b_w0": "a dog.", "d_w0": "a red wall.", "sub/c_w0": '{"subjects": [{"description": "a hen"}]}',
}  # fmt: skip


def test_a_folder_of_clips_and_pictures_is_prepared_without_copies_and_shown(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = prepared(clips, out, "--val", "0.25", "--recipe", "vision_sft_demo")
    assert "train: 3 clips\nval: 1 clip\n" in told
    assert {path.suffix for path in out.rglob("*") if path.is_file()} == {".jsonl", ".json", ".toml"}
    assert "already there" in prepared(clips, out, "--val", "0.25", "--recipe", "vision_sft_demo")
    told = cosmos("data", "show", str(out), "--count", "5", "-o", str(tmp_path / "shown")).stdout
    assert told.count("tokens") == 3
    for place in (tmp_path / "shown").iterdir():
        about = json.loads((place / "sample.json").read_text())
        frames = sorted((place / "frames").iterdir())
        assert len(frames) == len(about["frame_indices"]) == len(about["frame_seconds"])
        assert Image.open(frames[0]).size == (about["width"], about["height"])
        assert about["caption"] in (place / "text.txt").read_text()
        if about["file"].endswith(".mp4"):
            assert about["frame_seconds"] == [number / 10 for number in about["frame_indices"]]
            levels = [np.asarray(Image.open(frame)).mean() for frame in frames]
            assert levels == pytest.approx([20 + 15 * number for number in about["frame_indices"]], abs=4)
        assert (place / "contact_sheet.png").is_file()
    assert "is there already" in cosmos("data", "show", str(out), "-o", str(tmp_path / "shown"), code=2).stderr
    key = json.loads((place / "sample.json").read_text())["key"]
    by_window = cosmos("data", "show", str(out), "--sample", key, "-o", str(tmp_path / "again")).stdout
    assert by_window.split()[1] == f"{key},"
    named = cosmos("data", "show", str(out), "--sample", f"{key}9", "-o", str(tmp_path / "none"), code=2).stderr
    assert f"did you mean '{key.removesuffix('_w0')}'?" in named


def test_check_tells_what_training_would_read_and_refuses_what_it_would_refuse(clips: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out", tmp_path / "page.html"
    prepared(clips, out, "--val", "0", "--recipe", "vision_sft_demo")
    index = out / "train/video_dataset_file.jsonl"
    lines = [{**record, "width": 1280} if record["uuid"] == "a" else record for record in records(out)]
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    short, alone = "dataloader_train.dataset.min_window_frames=5", "trainer.run_validation=false"
    told = cosmos("data", "check", str(out), short, alone, "--html", str(page)).stdout
    assert "samples: 3 in all, 3 read; 3 can be used" in told
    key = "dataloader_train.dataset.min_window_frames"
    assert f"left out: 1 x no window of at least 5 frames, e.g. d; {key} changes it" in told
    assert "differs: 1 x records that differ from their file, e.g. a_w0: size 1280 x 64, the file has 64 x 64" in told
    assert "frames a sample: 9\n" in told, "all have one length"
    assert "steps an epoch on one process: 1" in told
    assert "a latent cache would take: 0." in told
    assert page.read_text().count("<img ") == 3
    (clips / "b.mp4").write_bytes(b"no video")
    done = cosmos("data", "check", str(out), alone, "--json", "--quick", "--no-html", code=2)
    report = json.loads(done.stdout)["dataloader_train"]
    assert (report["samples"], report["skipped"][0]["count"]) == (4, 1)
    assert "1 of 4 samples cannot be used" in done.stderr
    few = ("dataloader_train.max_sequence_length=20", "dataloader_train.max_bad_sample_fraction=1.0")
    assert "can never fit under 20" in cosmos("data", "check", str(out), alone, "--no-html", *few, code=2).stderr


def test_the_dataset_folder_gives_what_the_prepared_one_gives(clips: Path, tmp_path: Path) -> None:
    prepared(clips, tmp_path / "out", "--val", "0")
    written = BridgeSource(BridgeConfig(type="bridge", path=str(tmp_path / "out"), media_roots=(str(clips),), **PLAIN))
    direct = FolderSource(FolderConfig(type="folder", path=str(clips), validation=0.0, **PLAIN))
    assert captions(written) == captions(direct) == CAPTIONS
    parts = [
        captions(FolderSource(FolderConfig(type="folder", path=str(clips), split=split, validation=0.25, **PLAIN)))
        for split in ("train", "val")
    ]
    assert [len(part) for part in parts] == [3, 1]
    assert parts[0] | parts[1] == CAPTIONS


def test_windows_are_cut_with_a_stride_and_stay_in_one_split(clips: Path, tmp_path: Path) -> None:
    told = prepared(clips, tmp_path / "out", "--window", "5", "--stride", "3", "--val", "0.4", "--copy")
    assert "1 x shorter than a window of 5 frames, e.g." in told
    train, val = records(tmp_path / "out"), records(tmp_path / "out", "val")
    for record in (*train, *val):
        assert [window["start_frame"] for window in record["t2w_windows"]] == [0, 3, 6]
        assert [window["end_frame"] for window in record["t2w_windows"]] == [4, 7, 10]
        assert (tmp_path / "out/train" / record["vision_path"]).is_file()
    assert (len(train), len(val)) == (2, 1)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_give_the_same_clips_and_tell_which_columns_they_read(clips: Path, tmp_path: Path, kind: str) -> None:
    rows = [{"video": "a.mp4", "text": 'one, "two"'}, {"video": "sub/c.mp4", "text": "größe"}]
    table = clips / f"list.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
    elif kind == "jsonl":
        table.write_text("\ufeff" + "\r\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    told = prepared(table, tmp_path / "out", "--val", "0")
    assert "paths from column 'video', captions from column 'text'" in told
    found = {record["uuid"]: record["t2w_windows"][0]["caption"] for record in records(tmp_path / "out")}
    assert found == {"a": 'one, "two"', "sub/c": "größe"}


def pack(clips: Path, tar: Path) -> None:
    with tarfile.open(tar, "w") as archive:
        for path in sorted(clips.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(clips))


def test_tars_are_unpacked_when_asked_and_one_cut_short_is_named(clips: Path, tmp_path: Path) -> None:
    tar, out = tmp_path / "shard.tar", tmp_path / "out"
    pack(clips, tar)
    assert "--copy` unpacks them" in refused(tar, out)
    prepared(tar, out, "--val", "0", "--copy")
    assert captions(BridgeSource(BridgeConfig(type="bridge", path=str(out), **PLAIN))).keys() == {
        f"shard/{key}" for key in CAPTIONS
    }
    whole = tar.read_bytes()
    for size in (len(whole) // 3, len(clips.joinpath("a.mp4").read_bytes()) // 512 * 512 + 512):
        tar.write_bytes(whole[:size])
        told = refused(tar, tmp_path / "cut", "--copy")
        assert str(tar) in told
        assert "cannot be read to its end" in told


def test_bad_sources_are_refused_with_every_problem(clips: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    assert "no such file or folder" in refused(tmp_path / "nowhere", out)
    empty.mkdir()
    assert "no video and no picture" in refused(empty, out)
    under_a_file = clips / "d.png" / "out"
    told = cosmos("data", "prepare", "folder", str(clips), "-o", str(under_a_file), code=2).stderr
    assert f"{under_a_file} cannot be written" in told
    assert "Traceback" not in told
    (empty / "a.txt").write_text("alone")
    assert "1 captions without clips" in refused(empty, out)
    (clips / "a.txt").unlink()
    (clips / "lone.txt").write_text("nobody")
    (clips / "d.txt").write_bytes("größe".encode("latin-1"))
    (clips / "b.json").write_text('["a", "b"]')
    (clips / "sub/c.json").write_text('{"caption": "  "}')
    told = refused(clips, out)
    for words in ("no caption", "a caption without a clip", "Latin-1", "neither text nor an object", "is blank"):
        assert words in told


def test_bad_tables_are_refused_with_their_lines(clips: Path, tmp_path: Path) -> None:
    out, table = tmp_path / "out", clips / "t.csv"
    table.write_text("video,words\na.mp4,x\n")
    assert "no column for the caption" in refused(table, out)
    assert "named" not in prepared(table, tmp_path / "named", "--caption-column", "words", "--val", "0").split("\n")[0]
    table.write_text("clip,words\na.mp4,x\n")
    told = refused(table, out)
    assert "no column for the path" in told
    assert "no column for the caption" in told
    table.with_suffix(".xlsx").write_bytes(b"PK")
    assert "a spreadsheet (Excel, Numbers, LibreOffice) is read when it is saved as CSV" in refused(
        table.with_suffix(".xlsx"), out
    )
    table.write_text("video,text\na.mp4,x\nnone.mp4,y\nb.mp4,\ns3://b/c.mp4,z\n")
    told = refused(table, out)
    assert f"{table}:3" in told
    assert "no such file" in told
    assert f"{table}:4" in told
    assert "is an address" in told
    table.write_text("video,text\na.mp4,x\na.mp4,y\n")
    assert "twice" in refused(table, out)
    (clips / "a.mkv").write_bytes((clips / "a.mp4").read_bytes())
    assert "'a' is the name of" in refused(clips, out)


def test_files_that_cannot_be_used_are_left_out_and_told(clips: Path, tmp_path: Path, video: bytes) -> None:
    bad = {"empty.mp4": b"", "cut.mp4": video[: len(video) // 2]}
    for size in ((1, 4000), (12000, 12000)):
        picture = io.BytesIO()
        Image.new("1", size).save(picture, "png")
        bad[f"{size[0]}.png"] = picture.getvalue()
    for name, content in bad.items():
        (clips / name).write_bytes(content)
        (clips / name).with_suffix(".txt").write_text("x")
    told = prepared(clips, tmp_path / "out", "--val", "0")
    assert "train: 4 clips" in told
    for name in bad:
        assert name in told
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert sum(dropped["count"] for dropped in report["left_out"]) == len(bad)
    for path in clips.rglob("*.*"):
        if path.stem in {"a", "b", "c", "d"}:
            path.unlink()
    assert "no clip can be used" in refused(clips, tmp_path / "none")


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_pictures_are_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:32, :32] = 255
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (tmp_path / "a.txt").write_text("x")
    source = FolderSource(FolderConfig(type="folder", path=str(tmp_path), **PLAIN))
    found = source.get(0, np.random.default_rng(0)).pixels()[0, 0]
    corner = {2: (0, 1), 3: (1, 1), 6: (0, 1), 8: (1, 0)}[orientation]
    assert [[int(found[32 * y + 16, 32 * x + 16]) > 128 for x in (0, 1)] for y in (0, 1)] == [
        [(y, x) == corner for x in (0, 1)] for y in (0, 1)
    ]


def test_a_record_without_facts_or_windows_is_the_whole_clip_and_wrong_facts_are_told(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = clips / "train/video_dataset_file.jsonl"
    index.parent.mkdir()
    right = {"uuid": "a", "vision_path": "../a.mp4", "caption": "a cat"}
    windows = [{"start_frame": 0, "end_frame": 400, "caption": "x"}]
    wrong = {**right, "width": 1280, "height": 720, "duration": 0.5, "nb_frames": 400, "t2w_windows": windows}
    index.write_text(json.dumps(right) + "\n" + json.dumps({**wrong, "uuid": "b"}) + "\n")
    source = BridgeSource(BridgeConfig(type="bridge", path=str(clips), **PLAIN))
    by_key = {source.key(number): number for number in range(2)}
    assert source.get(by_key["a"], np.random.default_rng(0)).pixels().shape[1] == 9
    assert source.differences(by_key["a"]) == []
    assert len(source.differences(by_key["b"])) == 4
    source.get(by_key["b"], np.random.default_rng(0))
    assert "the record of b is wrong: size 1280 x 720, the file has 64 x 64; duration 0.5 s" in capsys.readouterr().err
    short = BridgeSource(BridgeConfig(type="bridge", path=str(clips), **{**PLAIN, "min_window_frames": 61}))
    with pytest.raises(UnreadableSample, match="the file has 12 frames"):
        short.get(0, np.random.default_rng(0))
