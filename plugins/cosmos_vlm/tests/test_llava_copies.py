"""Local copies of LLaVA-OneVision: which files are read, which dialogs their rows become, and what is refused."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cosmos_core.data import Image, Message, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_core.testing import check_dataset
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data import local
from cosmos_vlm.data.llava_onevision import LlavaSource
from cosmos_vlm.plugin import cosmos_identify_data
from tests.llava_rows import SUBSET, config_of, row, write_rows
from tests.tiny_reasoner import noise


def test_llava_rows_become_dialogs(tmp_path: Path) -> None:
    def encoded(seed: int) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(noise(3, 40, 50, seed=seed).permute(1, 2, 0).numpy()).save(buffer, format="PNG")
        return buffer.getvalue()

    said = [{"from": "human", "value": "Look: <image>\nwhat?"}, {"from": "gpt", "value": "noise"}]
    rows = [
        {"id": str(number), "image": {"bytes": encoded(number), "path": None}, "conversations": said}
        for number in range(5)
    ]
    rows.append({"id": "broken", "image": {"bytes": b"no image", "path": None}, "conversations": said})
    rows.append({"id": "blind", "image": None, "conversations": said})
    (tmp_path / "sub").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "sub/train-0.parquet", row_group_size=3)
    config = LlavaConfig(type="llava_ov", path=str(tmp_path))
    source = LlavaSource(config)
    assert len(source) == 7
    chat = source.get(4, np.random.default_rng(0))
    picture, text = chat.messages[0].content
    assert isinstance(picture, Image)
    assert torch.equal(picture.pixels, noise(3, 40, 50, seed=4))
    assert (text, chat.messages[1]) == ("Look: \nwhat?", Message("assistant", ("noise",)))
    for index, reason in ((5, "image cannot be read"), (6, "no image")):
        with pytest.raises(UnreadableSample, match=reason):
            source.get(index, np.random.default_rng(0))
    check_dataset(config)
    with pytest.raises(UserError, match="no Parquet or JSON file"):
        LlavaSource(LlavaConfig(type="llava_ov", path=str(tmp_path / "none")))


def test_what_rows_are_like_is_told_without_keeping_the_blocks_that_tell_it(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (60, 40)).save(header := io.BytesIO(), "PNG")
    picture = {"bytes": header.getvalue() + bytes(2**20), "path": None}
    rows = [{**row(number), "image": picture} for number in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-0.parquet", row_group_size=1)
    source, before = LlavaSource(LlavaConfig(type="llava_ov", path=str(tmp_path))), pa.total_allocated_bytes()
    seen = [source.dimensions(index) for index in range(8)]
    assert {(one.frames, one.height, one.width) for one in seen if one is not None} == {(1, 40, 60)}
    deadline = time.monotonic() + 60  # Arrow's threads let go of what they read a moment later.
    while pa.total_allocated_bytes() - before >= 2 * 2**20:
        assert time.monotonic() < deadline, "more than one block of eight is kept"
        time.sleep(0.02)


def keys_of(source: LlavaSource) -> set[str]:
    return {source.get(index, np.random.default_rng(0)).key for index in range(len(source))}


def mirror(root: Path, *subsets: str) -> None:
    """Four rows a subset, called row0, row1, ... over all of them."""
    for number, name in enumerate(subsets):
        (root / name).mkdir(parents=True)
        table = pa.Table.from_pylist([row(4 * number + index) for index in range(4)])
        pq.write_table(table, root / name / "train-00000-of-00001.parquet")


def test_of_a_mirror_only_the_subset_is_read(tmp_path: Path) -> None:
    mirror(tmp_path, "other", SUBSET, "third/below")
    assert keys_of(LlavaSource(config_of(tmp_path))) == {f"row{number}" for number in range(4, 8)}
    assert keys_of(LlavaSource(config_of(tmp_path, subset="other"))) == {f"row{number}" for number in range(4)}
    assert keys_of(LlavaSource(config_of(tmp_path, subset="third"))) == {f"row{number}" for number in range(8, 12)}


def test_several_folders_of_rows_without_the_subset_are_refused(tmp_path: Path) -> None:
    mirror(tmp_path, "ai2d(cauldron)", "ureader_kg(cauldron)/below")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match="which part of the local copy is meant") as found:
        LlavaSource(config_of(tmp_path))
    problem = found.value.problems[0]
    assert SUBSET in problem.message
    assert problem.key == "dataloader_train.dataset.subset"
    assert "one of ai2d(cauldron), ureader_kg(cauldron);" in problem.hint


@pytest.mark.parametrize("names", [(".",), (".", "more"), ("of any name",)])
def test_a_folder_that_is_no_mirror_is_read_whole(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        mirror(tmp_path / f"{number}", name)
        shutil.copytree(tmp_path / f"{number}", tmp_path / "copy", dirs_exist_ok=True)
    assert len(LlavaSource(config_of(tmp_path / "copy"))) == 4 * len(names)


@pytest.mark.parametrize("beside", [True, False], ids=["beside the rows", "from the top"])
def test_pictures_of_a_subset_are_found_beside_its_rows_or_from_the_top(tmp_path: Path, beside: bool) -> None:
    home = tmp_path / "copy" / SUBSET
    (home / "images").mkdir(parents=True)
    (home / "images/a.png").write_bytes(row(0)["image"]["bytes"])
    stored = "images/a.png" if beside else f"{SUBSET}/images/a.png"
    (home / "data.json").write_text(json.dumps([{**row(0), "image": stored}, {**row(1), "image": "../../a.png"}]))
    (tmp_path / "a.png").write_bytes(row(0)["image"]["bytes"])
    source = LlavaSource(config_of(tmp_path / "copy"))
    assert isinstance(source.get(0, np.random.default_rng(0)).messages[0].content[0], Image)
    with pytest.raises(UnreadableSample, match="outside of the dataset's folder") as skipped:
        source.get(1, np.random.default_rng(0))
    assert f"leads to {tmp_path}/a.png, which is outside {tmp_path}/copy" in skipped.value.where
    allowed = LlavaSource(config_of(tmp_path / "copy", media_roots=(str(tmp_path),)))
    assert isinstance(allowed.get(1, np.random.default_rng(0)).messages[0].content[0], Image)


@pytest.mark.parametrize("stray", ['{"citation": "..."}', '["train", "val"]', "[]", "7"])
def test_a_json_file_without_records_is_left_out_by_name(
    tmp_path: Path, stray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(local.logger, "warning", lambda text, *values: said.append(text % values))
    (tmp_path / "here.png").write_bytes(row(0)["image"]["bytes"])
    (tmp_path / "data.json").write_text(json.dumps([{**row(0), "image": "here.png"}]))
    (tmp_path / "dataset_infos.json").write_text(stray)
    assert keys_of(LlavaSource(config_of(tmp_path))) == {"row0"}
    assert said == [f"skipped {tmp_path / 'dataset_infos.json'}: it is not a list of records"]
    (tmp_path / "data.json").unlink()
    with pytest.raises(UserError, match="no Parquet or JSON file of rows"):
        LlavaSource(config_of(tmp_path))


@pytest.mark.parametrize("name", ["data.json", "data.parquet"])
def test_hidden_files_are_no_rows_and_links_to_folders_are_followed(tmp_path: Path, name: str) -> None:
    """Copies that editors and Macs leave would be trained on again."""
    home, other = tmp_path / "copy", tmp_path / "disk"
    for folder, number in ((home, 0), (home / ".ipynb_checkpoints", 0), (other, 1)):
        folder.mkdir()
        rows = [{**row(number), "image": "a.png"}]
        pq.write_table(pa.Table.from_pylist(rows), folder / "data.parquet")
        if name == "data.json":
            (folder / "data.parquet").unlink()
            (folder / name).write_text(json.dumps(rows))
    (home / "a.png").write_bytes(row(0)["image"]["bytes"])
    (home / f"._{name}").write_bytes(b"\0\5\x16\7")
    (home / "more").symlink_to(other)
    assert keys_of(LlavaSource(config_of(home))) == {"row0", "row1"}
    assert cosmos_identify_data(home) is not None
    (home / f"lost_{name}").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="links lead nowhere"):
        LlavaSource(config_of(home))


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.parquet"])
def test_one_file_of_the_hubs_cache_is_read_by_its_own_name(tmp_path: Path, name: str) -> None:
    """A link to a blob, whose name has no ending."""
    blobs, snapshot = tmp_path / "datasets--a--b/blobs", tmp_path / "datasets--a--b/snapshots/1"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    record = {**row(0), "image": "a.png"}
    if name == "data.parquet":
        pq.write_table(pa.Table.from_pylist([record]), blobs / "0f1e")
    else:
        (blobs / "0f1e").write_text(json.dumps([record] if name == "data.json" else record))
    (blobs / "2d3c").write_bytes(row(0)["image"]["bytes"])
    (snapshot / name).symlink_to("../../blobs/0f1e")
    (snapshot / "a.png").symlink_to("../../blobs/2d3c")
    assert keys_of(LlavaSource(config_of(snapshot / name))) == {"row0"}
    found = cosmos_identify_data(snapshot / name)
    assert found is not None
    assert found.dataset["path"] == str(snapshot / name)


def test_a_link_of_a_users_own_is_followed_to_the_pictures_beside_its_target(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.png").write_bytes(row(0)["image"]["bytes"])
    (tmp_path / "disk/data.json").write_text(json.dumps([{**row(0), "image": "a.png"}]))
    (tmp_path / "mine.json").symlink_to("disk/data.json")
    assert keys_of(LlavaSource(config_of(tmp_path / "mine.json"))) == {"row0"}


def test_beside_parquet_no_json_file_counts(tmp_path: Path) -> None:
    mirror(tmp_path, "rows")
    (tmp_path / "dataset_infos.json").write_text("{")
    assert len(LlavaSource(config_of(tmp_path))) == 4


def test_a_record_that_is_no_object_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('[{"id": "a"}, {"id": "b"}, 7]')
    with pytest.raises(UserError, match="record 2 is not an object") as found:
        LlavaSource(config_of(tmp_path))
    assert found.value.problems[0].file == str(tmp_path / "data.json")


@pytest.mark.parametrize("suffix", [".json", ".JSONL"])
def test_a_json_copy_gives_the_same_dialogs(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / "rows", files=4, rows=24, block=6)
    copied = tmp_path / "copy"
    copied.mkdir()
    records = []
    for number in range(96):
        record = row(number)
        (copied / f"{number}.png").write_bytes(record["image"]["bytes"])
        records.append({**record, "image": f"{number}.png"})
    lines = "\n".join(json.dumps(record) for record in records)
    (copied / f"data{suffix}").write_text(json.dumps(records) if suffix == ".json" else lines)
    copy, stored = LlavaSource(config_of(copied)), LlavaSource(config_of(tmp_path / "rows"))
    assert len(copy) == len(stored)
    (copied / "a.json").mkdir()
    os.mkfifo(copied / "a.jsonl")
    assert cosmos_identify_data(copied) is not None
    assert cosmos_identify_data(copied / f"data{suffix}") is not None
    for index in (0, 50, 95):
        mine, theirs = (source.get(index, np.random.default_rng(0)) for source in (copy, stored))
        assert (mine.key, mine.messages[1]) == (theirs.key, theirs.messages[1])
        picture, other = mine.messages[0].content[0], theirs.messages[0].content[0]
        assert torch.equal(picture.pixels, other.pixels)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "../outside.png"}, "outside of the dataset's folder"),
        ({"image": "absent.png"}, "image file is missing"),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "x"}]}, "no speaker or no text"),
        ({"conversations": ["What?", "x"]}, "no speaker or no text"),
        ({"conversations": 5}, "fewer than two turns"),
        ({"conversations": [{"from": "gpt", "value": "a"}, {"from": "gpt", "value": "b"}]}, "no turn is the user's"),
        ({"conversations": []}, "fewer than two turns"),
        ({"image": None}, "no image"),
    ],
)
def test_a_broken_row_is_named_with_its_reason(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    (tmp_path / "outside.png").write_bytes(row(0)["image"]["bytes"])
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/here.png").write_bytes(row(0)["image"]["bytes"])
    (tmp_path / "copy/data.json").write_text(json.dumps([{**row(0), "image": "here.png", **change}]))
    with pytest.raises(UnreadableSample, match=f"row0.*: .*{reason}"):
        LlavaSource(config_of(tmp_path / "copy")).get(0, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["r\0"], ids=["NUL"])
def test_a_row_whose_id_cannot_be_written_down_is_skipped_by_its_number(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.json").write_text(json.dumps([{**row(0), "id": name, "image": "a.png"}]))
    with pytest.raises(UnreadableSample, match="row 0 .*: its id holds"):
        LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["a\0.png", "n" * 300 + ".png"], ids=["NUL", "long"])
def test_a_picture_that_no_file_can_be_called_is_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.json").write_text(json.dumps([{**row(0), "image": name}]))
    with pytest.raises(UnreadableSample, match="row0 .*image path h"):
        LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "text"),
    [("data.json", '[\n{"id": "a"},\n{"id": }\n]'), ("data.jsonl", '{"id": "a"}\n{"id": "b"}\n{"id": }\n')],
)
def test_a_damaged_json_file_is_named_with_its_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as found:
        LlavaSource(config_of(tmp_path))
    assert (found.value.problems[0].file, found.value.problems[0].line) == (str(tmp_path / name), 3)


def test_separators_inside_of_a_json_string_end_no_line(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(row(0)["image"]["bytes"])
    record = {**row(0, "one\u2028two\u0085three"), "image": "here.png"}
    (tmp_path / "data.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    chat = LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))
    assert chat.messages[1].content == ("one\u2028two\u0085three",)


def test_the_picture_is_the_first_users_after_a_system_turn(tmp_path: Path) -> None:
    turns = [{"from": "system", "value": "Be nice"}, *row(0)["conversations"]]
    table = pa.Table.from_pylist([{**row(0), "conversations": turns}])
    pq.write_table(table, tmp_path / "a.parquet")
    chat = LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))
    assert [(turn.role, len(turn.content)) for turn in chat.messages] == [("system", 1), ("user", 2), ("assistant", 1)]


@pytest.mark.parametrize("part", ["footer", "page"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, part: str) -> None:
    (tmp_path / "folder.parquet").mkdir()
    write_rows(tmp_path / "rows", files=1, rows=6, block=6)
    file = tmp_path / "rows/train-00000.parquet"
    data = bytearray(file.read_bytes())
    place = slice(len(data) - 120, len(data) - 10) if part == "footer" else slice(4, 400)
    data[place] = b"\xff" * len(data[place])
    file.write_bytes(bytes(data))
    with pytest.raises(UserError, match="a Parquet file cannot be read") as found:
        LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))
    assert found.value.problems[0].file == str(file)


def test_a_parquet_file_with_a_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    texts = [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xfe")]
    columns = {**{name: [value] for name, value in row(0).items()}, "id": pa.Array.from_buffers(pa.string(), 1, texts)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a Parquet file cannot be read") as found:
        LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))
    assert "Invalid UTF8" in found.value.problems[0].message


def test_a_picture_that_any_decoder_chokes_on_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows", files=1, rows=1, block=1)
    source = LlavaSource(config_of(tmp_path / "rows"))

    def choke(*arguments: Any) -> None:
        raise RuntimeError("Failed to decode frame 0")

    monkeypatch.setattr(PIL.Image, "open", choke)
    with pytest.raises(UnreadableSample, match="image cannot be read"):
        source.get(0, np.random.default_rng(0))
