"""`cosmos data prepare folder` on Hugging Face datasets: Parquet and Arrow files, here and on the Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest
from PIL import Image

from cosmos_core.errors import UserError
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.listing import fetched, list_entries
from tests.command import cosmos
from tests.fake_hub import COMMIT, serving
from tests.folder_clips import captions_of, prepare_here, small_video

REPO = "acme/clips"
CLIP = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_video(tmp_path_factory.mktemp("video"))


def table_of(column: str, clips: list[Any], captions: list[str]) -> pyarrow.Table:
    kind = CLIP if isinstance(clips[0], dict) else None
    return pyarrow.table({"id": [1] * len(clips), column: pyarrow.array(clips, kind), "text": captions})


def write(path: Path, table: pyarrow.Table) -> None:
    """As `Dataset.to_parquet` and `Dataset.save_to_disk` do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=1)
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_clips_that_rows_hold_are_unpacked_and_only_the_training_split_is_read(
    tmp_path: Path, video: bytes, kind: str
) -> None:
    source, out = tmp_path / "rows", tmp_path / "out"
    (tmp_path / "beside.mp4").write_bytes(video)
    beside = {"bytes": None, "path": str(tmp_path / "beside.mp4")}
    clips = [{"bytes": video, "path": "x.mp4"}, {"bytes": video, "path": None}, {"bytes": b"no", "path": None}, beside]
    write(source / f"data/train-00000-of-00001.{kind}", table_of("video", clips, ["one", "two", "three", "four"]))
    write(source / f"data/test-00000-of-00001.{kind}", table_of("video", clips[:1], ["never"]))
    (source / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError) as refused:
        prepare_here(source, out)
    (problem,) = refused.value.problems  # Of a planned run it is told without the title.
    assert problem.message == "holds clips; training reads files"
    assert problem.hint.endswith("--copy` unpacks them")
    told = "\n".join(prepare_here(source, out, copy=True))
    assert "reading the split 'train' of test, train" in told
    assert "paths from column 'video', captions from column 'text'" in told
    file = source / f"data/train-00000-of-00001.{kind}"
    assert f"left out: 1 x not a video (InvalidDataError), e.g. {file}, row 3" in told
    name = "data/train-00000-of-00001"
    key = (tmp_path / "beside").as_posix()
    assert captions_of(out) == {f"{name}/000001": "one", f"{name}/000002": "two", key: "four"}
    media = [path for path in (out / "media").rglob("*") if path.is_file()]
    assert sorted(path.name for path in media) == ["000001.mp4", "000002", "beside.mp4"]
    assert {path.read_bytes() for path in media} == {video}


def test_pictures_without_a_name_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (96, 48)).save(tmp_path / "a.jpg", exif=exif)
    clips = [{"bytes": (tmp_path / "a.jpg").read_bytes(), "path": None}]
    write(tmp_path / "rows/train.parquet", table_of("image", clips, ["x"]))
    prepare_here(tmp_path / "rows", tmp_path / "out", copy=True)
    (record,) = (json.loads((tmp_path / "out/train/video_dataset_file.jsonl").read_text()),)
    assert (record["width"], record["height"]) == (48, 96)


@pytest.mark.parametrize("as_struct", [False, True])
def test_paths_in_rows_begin_at_the_table_or_at_the_dataset(tmp_path: Path, video: bytes, as_struct: bool) -> None:
    source = tmp_path / "rows"
    for name in ("data/a.mp4", "videos/b.mp4"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(video)
    paths: list[Any] = ["a.mp4", "videos/b.mp4"]
    clips = [{"bytes": None, "path": path} for path in paths] if as_struct else paths
    write(source / "data/train.parquet", table_of("video", clips, ["one", "two"]))
    prepare_here(source, tmp_path / "out")
    assert captions_of(tmp_path / "out") == {"data/a": "one", "videos/b": "two"}
    write(source / "data/train.parquet", table_of("video", [*clips[:1], {**clips[0], "path": "c.mp4"}], ["one", "two"])
          if as_struct else table_of("video", ["a.mp4", "c.mp4"], ["one", "two"]))  # fmt: skip
    with pytest.raises(UserError, match="1 of 2 rows cannot be used"):
        list_entries(fetched(str(source), None, None))


def test_a_damaged_file_of_a_dataset_is_named(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.arrow"):
        (tmp_path / name).write_bytes(b"PAR1 and no more")
        with pytest.raises(UserError) as refused:
            prepare_here(tmp_path / name, tmp_path / "out")
        assert refused.value.problems[0].file == str(tmp_path / name)
    write(tmp_path / "both/test.parquet", table_of("video", ["a"], ["x"]))
    write(tmp_path / "both/valid.parquet", table_of("video", ["a"], ["x"]))
    with pytest.raises(UserError, match="it is not clear which split is meant"):
        prepare_here(tmp_path / "both", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_dataset_on_the_hub_gives_what_its_local_copy_gives(tmp_path: Path, video: bytes) -> None:
    root = tmp_path / "hub"
    write(root / "rows/train-00000-of-00001.parquet", table_of("video", [{"bytes": video, "path": "x.mp4"}], ["one"]))
    (root / "beside").mkdir()
    (root / "beside/a.mp4").write_bytes(video)
    (root / "beside/metadata.jsonl").write_text(json.dumps({"file_name": "a.mp4", "text": "two"}) + "\n")
    (root / "README.md").write_text("---\n---\n")
    with serving(root, REPO) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        for part, options in (("rows", ["--copy"]), ("beside", [])):
            prepare = ["data", "prepare", "folder", f"hf://datasets/{REPO}@main/{part}", "--val", "0", *options]
            cosmos(*prepare, "-o", str(tmp_path / part), env=env)
            assert json.loads((tmp_path / part / "report.json").read_text())["source"] == f"{REPO}@{COMMIT}/{part}"
            prepare_here(root / part, tmp_path / f"local {part}", copy=bool(options))
            assert captions_of(tmp_path / part) == captions_of(tmp_path / f"local {part}")
        assert {name for name, _ in hub.asked if name.startswith("rows")} == {"rows/train-00000-of-00001.parquet"}
    roots = json.loads((tmp_path / "beside/recipe.toml").read_text().partition("media_roots = ")[2].partition("\n")[0])
    config = BridgeConfig(
        type="bridge", path=str(tmp_path / "beside"), media_roots=tuple(roots), min_window_frames=1, resolution="64"
    )
    assert len(BridgeSource(config)) == 1


def test_addresses_of_other_forms_and_of_a_run_are_refused() -> None:
    with pytest.raises(UserError, match="this is no dataset on the Hub"):
        fetched("hf://acme/clips", None, None)
    with pytest.raises(ValueError, match="`cosmos data prepare folder hf://datasets/acme/clips -o OUT` fetches it"):
        FolderConfig(type="folder", path="hf://datasets/acme/clips")
