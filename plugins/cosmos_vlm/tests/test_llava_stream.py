"""LLaVA-OneVision as a stream: who reads what, in which order, and where a resumed run goes on."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import DataloaderConfig
from cosmos_core.data import Image, PackedLoader, Preparation, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data import llava_onevision, local, retries
from cosmos_vlm.data.llava_onevision import LlavaSource
from cosmos_vlm.data.retries import with_retries
from cosmos_vlm.data.shards import windowed_shuffle
from tests.fake_hub import FakeHub, serving

REPO = "lmms-lab/LLaVA-OneVision-Data"
SUBSET = "ai2d(gpt4v)"
CARD = f"""---
configs:
- config_name: {SUBSET}
  data_files:
  - split: train
    path: {SUBSET}/train-*
- config_name: other
  data_files:
  - split: train
    path: other/train-*
---
"""


def row(number: int, said: str = "noise") -> dict[str, Any]:
    data = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(data, "PNG")
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": said}]
    return {"id": f"row{number}", "image": {"bytes": data.getvalue(), "path": None}, "conversations": turns}


def write_rows(folder: Path, *, files: int, rows: int, block: int) -> None:
    folder.mkdir(parents=True)
    for file in range(files):
        table = pa.Table.from_pylist([row(file * rows + number) for number in range(rows)])
        pq.write_table(table, folder / f"train-{file:05d}.parquet", row_group_size=block)


def config_of(path: Path, **options: Any) -> LlavaConfig:
    return LlavaConfig(type="llava_ov", path=str(path), **options)


def loader_of(source: LlavaSource, *, rank: int = 0, world: int = 1, workers: int = 0) -> PackedLoader:
    config = DataloaderConfig(dataset=source._config, max_samples_per_batch=3, num_workers=workers)
    preparation = Preparation(lambda chat: chat, lambda chat: 1)
    return PackedLoader(source, config=config, preparation=preparation, rank=rank, world=world)


def keys(packs: Any) -> list[str]:
    return [item.value.key for pack in packs for item in pack.items]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("llava") / "rows"
    write_rows(place, files=4, rows=24, block=6)
    return place


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    lanes=st.integers(1, 12),
    buffer=st.integers(1, 60),
    seed=st.integers(0, 9),
)
def test_the_order_of_an_epoch_is_a_permutation(sizes: list[int], lanes: int, buffer: int, seed: int) -> None:
    first, again = (windowed_shuffle(sizes, lanes, buffer, np.random.default_rng(seed)) for _ in range(2))
    assert sorted(first) == list(range(sum(sizes)))
    assert (first == again).all()


@pytest.mark.parametrize(("ranks", "workers"), [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_no_two_readers_touch_the_same_block(ranks: int, workers: int) -> None:
    sizes, readers = [10] * 32, ranks * workers
    order = windowed_shuffle(sizes, 8, 80, np.random.default_rng(0))
    blocks = [set((order[reader::readers] // 10).tolist()) for reader in range(readers)]
    assert sum(len(one) for one in blocks) == 32
    assert set().union(*blocks) == set(range(32))


def test_blocks_are_read_once_an_epoch_and_few_are_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[tuple[str, int]] = Counter()
    read = llava_onevision.read_block

    def counted(location: str, number: int) -> Any:
        reads[location, number] += 1
        return read(location, number)

    monkeypatch.setattr(llava_onevision, "read_block", counted)
    monkeypatch.setattr(llava_onevision, "EVICTION_FACTOR", 4)
    source = LlavaSource(config_of(folder, lanes=2, shuffle_buffer=12))
    held = []
    for index in source.epoch_permutation(np.random.default_rng(3)):
        source.get(int(index), np.random.default_rng(0))
        held.append(len(source._cache))
    assert len(reads) == 16
    assert set(reads.values()) == {1}
    assert max(held) <= 5


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_with_the_same_rows(folder: Path, workers: int) -> None:
    """Position, shuffling and what the packer has set aside, in the middle of an epoch and of a block."""
    source = LlavaSource(config_of(folder, lanes=4))
    whole = list(islice(loader_of(source, workers=workers), 50))
    for stop in (1, 7, 33):
        resumed = loader_of(LlavaSource(config_of(folder, lanes=4)), workers=workers)
        resumed.load_state([whole[stop - 1].state])
        assert keys(islice(resumed, 50 - stop)) == keys(whole[stop:])


def test_a_stream_resumed_on_more_ranks_loses_and_repeats_nothing(folder: Path) -> None:
    source = LlavaSource(config_of(folder, lanes=4))
    begun = list(islice(loader_of(source), 10))
    seen = keys(begun)
    for rank in range(3):
        loader = loader_of(source, rank=rank, world=3)
        loader.load_state([begun[-1].state])
        seen += keys(islice(loader, (96 - 30) // 3 // 3))
    assert len(seen) == len(set(seen))


def test_other_rows_than_the_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", files=4, rows=23, block=6)
    state = next(iter(loader_of(LlavaSource(config_of(folder))))).state
    changed = (config_of(tmp_path / "rows"), config_of(folder, lanes=2), config_of(folder, shuffle_buffer=7))
    for config in changed:
        with pytest.raises(UserError, match="the data, or its order, has changed"):
            loader_of(LlavaSource(config)).load_state([state])


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


def test_beside_parquet_no_json_file_counts(tmp_path: Path) -> None:
    mirror(tmp_path, "rows")
    (tmp_path / "dataset_infos.json").write_text("{")
    assert len(LlavaSource(config_of(tmp_path))) == 4


def test_a_record_that_is_no_object_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('[{"id": "a"}, {"id": "b"}, 7]')
    with pytest.raises(UserError, match="record 2 is not an object") as found:
        LlavaSource(config_of(tmp_path))
    assert found.value.problems[0].file == str(tmp_path / "data.json")


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_json_copy_gives_the_same_dialogs(folder: Path, tmp_path: Path, suffix: str) -> None:
    records = []
    for number in range(96):
        record = row(number)
        (tmp_path / f"{number}.png").write_bytes(record["image"]["bytes"])
        records.append({**record, "image": f"{number}.png"})
    lines = "\n".join(json.dumps(record) for record in records)
    (tmp_path / f"data{suffix}").write_text(json.dumps(records) if suffix == ".json" else lines)
    copy, stored = LlavaSource(config_of(tmp_path)), LlavaSource(config_of(folder))
    assert len(copy) == len(stored)
    for index in (0, 50, 95):
        mine, theirs = (source.get(index, np.random.default_rng(0)) for source in (copy, stored))
        assert (mine.key, mine.messages[1]) == (theirs.key, theirs.messages[1])
        picture, other = mine.messages[0].content[0], theirs.messages[0].content[0]
        assert torch.equal(picture.pixels, other.pixels)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": "../outside.png"}, "outside of the dataset's folder"),
        ({"image": "absent.png"}, "image cannot be read"),
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


@pytest.mark.parametrize("name", ["r\ud800", "r\0"], ids=["half", "NUL"])
def test_a_row_whose_id_cannot_be_written_down_is_skipped_by_its_number(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.json").write_text(json.dumps([{**row(0), "id": name, "image": "a.png"}]))
    with pytest.raises(UnreadableSample, match="row 0: its id holds"):
        LlavaSource(config_of(tmp_path)).get(0, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["a\0.png", "n" * 300 + ".png", "\ud800.png"], ids=["NUL", "long", "half"])
def test_a_picture_that_no_file_can_be_called_is_skipped(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.json").write_text(json.dumps([{**row(0), "image": name}]))
    with pytest.raises(UnreadableSample, match="row0: image cannot be read"):
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


def test_a_picture_that_any_decoder_chokes_on_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows", files=1, rows=1, block=1)
    source = LlavaSource(config_of(tmp_path / "rows"))

    def choke(*arguments: Any) -> None:
        raise RuntimeError("Failed to decode frame 0")

    monkeypatch.setattr(PIL.Image, "open", choke)
    with pytest.raises(UnreadableSample, match="image cannot be read"):
        source.get(0, np.random.default_rng(0))


def test_a_network_that_recovers_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    answers = [OSError("unreachable"), OSError("unreachable"), "rows"]

    def action() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert with_retries(action, "a file") == "rows"
    assert waited == [1.0, 2.0]
    answers = [OSError("unreachable")] * 6
    with pytest.raises(UserError, match="the Hub cannot be read") as found:
        with_retries(action, "a file")
    assert waited[2:] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert "6 attempts" in found.value.problems[0].message


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Any:
    root = tmp_path / "hub"
    root.mkdir()
    (root / SUBSET).symlink_to(folder)
    (root / "README.md").write_text(CARD)
    with serving(root, REPO) as served:
        yield served


def streamed(url: str, tmp_path: Path, code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with its Hub at `url`."""
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "cache"), **variables}
    setup = (
        "import numpy as np\nfrom cosmos_vlm.config import LlavaConfig\n"
        "from cosmos_vlm.data.llava_onevision import LlavaSource\n"
    )
    arguments = [sys.executable, "-c", setup + code]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_the_hubs_rows_are_those_of_the_files_and_come_block_by_block(
    hub: FakeHub, folder: Path, tmp_path: Path
) -> None:
    """Through the repository's own description of its subsets, pinned to a commit, over a network with faults."""
    hub.faults = 3
    code = (
        "source = LlavaSource(LlavaConfig(type='llava_ov', lanes=2))\n"
        "order = source.epoch_permutation(np.random.default_rng(5))\n"
        "print(source.fingerprint)\n"
        "print([source.get(int(index), np.random.default_rng(0)).key for index in order])\n"
    )
    done = streamed(hub.url, tmp_path, code)
    assert done.returncode == 0, done.stderr
    identity, found = done.stdout.splitlines()
    assert f"hf://datasets/{REPO}@0123456789abcdef0123456789abcdef01234567/{SUBSET}" in identity
    source = LlavaSource(config_of(folder, lanes=2))
    order = source.epoch_permutation(np.random.default_rng(5))
    assert found == str([source.get(int(index), np.random.default_rng(0)).key for index in order])
    assert hub.faults == 0
    assert all(span.startswith("bytes=") for name, span in hub.asked if name.endswith(".parquet"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("subset='ai2d(gpt4)'", "ai2d(gpt4v)"),
        ("split='test'", "one of train"),
        ("repo='lmms-lab/Absent'", "Absent"),
    ],
)
def test_what_the_hub_does_not_have_is_said_with_what_it_has(
    hub: FakeHub, tmp_path: Path, options: str, said: str
) -> None:
    code = (
        "from cosmos_core.errors import UserError\n"
        f"try:\n    LlavaSource(LlavaConfig(type='llava_ov', {options}))\n"
        "except UserError as error:\n    print(error, [problem.hint for problem in error.problems])\n"
    )
    done = streamed(hub.url, tmp_path, code)
    assert "cannot be streamed" in done.stdout, done.stderr
    assert said in done.stdout


def test_without_a_network_a_local_copy_is_proposed(tmp_path: Path) -> None:
    """Offline, since the Hub's client would wait for a network that is down."""
    code = (
        "from cosmos_core.errors import UserError\n"
        "try:\n    LlavaSource(LlavaConfig(type='llava_ov'))\n"
        "except UserError as error:\n    print(error, [problem.hint for problem in error.problems])\n"
    )
    done = streamed("http://127.0.0.1:9", tmp_path, code, HF_HUB_OFFLINE="1")
    assert "the Hub cannot be read" in done.stdout, done.stderr
    assert "dataloader_train.dataset.path" in done.stdout
