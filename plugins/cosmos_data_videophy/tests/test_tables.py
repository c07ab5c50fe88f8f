"""Tables of VideoPhy-2 as people have them: with marks of spreadsheets, damaged, as Parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cosmos_core.data.video import write_mp4
from cosmos_data_videophy.question import RUBRIC
from cosmos_data_videophy.synthetic import draw
from tests.command import cosmos

HEADER = "video_url,caption,upsampled_caption,pc,sa,joint"


def prepare(source: Path, out: Path, *options: str, code: int = 0) -> str:
    done = cosmos("data", "prepare", "videophy2", "-o", str(out), "--source", str(source), *options, code=code)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return said


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with clips and no table."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for number in range(3):
        write_mp4(folder / f"clip{number}.mp4", draw(3, np.random.default_rng(number)).pixels, 2)
    return folder


def answers(out: Path, split: str = "train") -> list[str]:
    folder = out / f"videophy2_{split}"
    manifest = json.loads((folder / "meta.json").read_text())
    dialogs = [json.loads((folder / entry["conversation"]).read_text())["conversations"] for entry in manifest]
    return [dialog[1]["content"][0]["text"] for dialog in dialogs]


def test_a_byte_order_mark_is_no_part_of_the_first_column(copy: Path, tmp_path: Path) -> None:
    (copy / "data.csv").write_text(f"{HEADER}\nclip0.mp4,é,,4,1,0\n", encoding="utf-8-sig")
    prepare(copy, tmp_path / "out", "--split", "train", "--include-caption")
    assert answers(tmp_path / "out") == ["4"]
    text = json.loads((tmp_path / "out/videophy2_train/text/conversation_0001.json").read_text())
    assert text["conversations"][0]["content"][1]["text"].endswith("Caption: é")


@pytest.mark.parametrize(
    ("captions", "last_line"),
    [
        ("a ball, a ball falls ", "Caption: a ball falls"),
        (" a ball , ", "Caption: a ball"),
        ("a ball,nan", "Caption: a ball"),
        ("a ball,N/A", "Caption: a ball"),
        (" ,None", None),
    ],
)
def test_a_caption_is_the_last_line_without_spaces_around_it(
    copy: Path, tmp_path: Path, captions: str, last_line: str | None
) -> None:
    (copy / "data.csv").write_text(f"{HEADER}\nclip0.mp4,{captions},4,1,0\n")
    prepare(copy, tmp_path / "out", "--split", "train", "--include-caption")
    text = json.loads((tmp_path / "out/videophy2_train/text/conversation_0001.json").read_text())
    question = text["conversations"][0]["content"][1]["text"]
    assert question == (RUBRIC if last_line is None else f"{RUBRIC}\n{last_line}")


def test_a_field_that_never_ends_is_named_with_its_line(copy: Path, tmp_path: Path) -> None:
    row = 'clip1.mp4,,"left open,4,1,0\n' + "clip2.mp4,,,1,1,0\n" * 3
    (copy / "data.csv").write_text(
        f"{HEADER}\nclip0.mp4,two\n lines,,4,1,0\n".replace("two\n lines", '"two\n lines"') + row
    )
    said = prepare(copy, tmp_path / "out", "--split", "train", code=2)
    assert f"{copy / 'data.csv'}:4" in said
    assert "never closed" in said
    assert not (tmp_path / "out").exists()


def test_rows_and_columns_whose_values_would_move_are_refused_with_their_lines(copy: Path, tmp_path: Path) -> None:
    rows = "clip0.mp4,,,4,1,0\nclip1.mp4,a ball, red,,4,1,0\nclip2.mp4,,,1,1,0,\n"
    (copy / "data.csv").write_text(f"{HEADER}\n{rows}")
    said = prepare(copy, tmp_path / "out", "--split", "train", code=2)
    assert f"{copy / 'data.csv'}:3 this row has 7 fields, the first row 6; put quotes around" in " ".join(said.split())
    (copy / "data.csv").write_text(f"{HEADER},pc\nclip0.mp4,,,4,1,0,5\n")
    assert "several columns called pc" in prepare(copy, tmp_path / "out", "--split", "train", code=2)
    assert not (tmp_path / "out").exists()


def test_a_table_of_another_encoding_is_refused_with_its_line(copy: Path, tmp_path: Path) -> None:
    (copy / "data.csv").write_bytes(f"{HEADER}\nclip0.mp4,é,,4,1,0\n".encode("latin-1"))
    said = prepare(copy, tmp_path / "out", "--split", "train", code=2)
    assert f"{copy / 'data.csv'}:2" in said
    assert "Latin-1" in said


@pytest.mark.parametrize(("content", "has"), [("video;pc\n1;2\n", "video;pc"), ("", "none")])
def test_a_table_without_the_columns_says_which_it_has(copy: Path, tmp_path: Path, content: str, has: str) -> None:
    (copy / "data.csv").write_text(content)
    said = prepare(copy, tmp_path / "out", "--split", "train", "--score-field", "sa", code=2)
    assert f"lacks the columns video_url, sa; it has {has}" in said


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def row(number: int, **values: Any) -> dict[str, Any]:
    return {"video_url": f"https://gone.invalid/clip{number}.mp4", "caption": None, "pc": 4, "extra": [1], **values}


def test_parquet_takes_the_place_of_a_csv(copy: Path, tmp_path: Path) -> None:
    """As the Hub converts tables: shards of a split in a folder, whole numbers or floats, and nulls."""
    parquet(copy / "data/train-00000-of-00002.parquet", [row(0, pc=2.0), row(1, pc=float("nan")), row(1, pc=None)])
    parquet(copy / "data/train-00001-of-00002.parquet", [row(2, pc=5, joint=True, category="fluids")])
    said = prepare(copy, tmp_path / "out", "--split", "train", "--max-failures", "0.5")
    assert "2 of 4 rows, 2 failed" in said
    assert answers(tmp_path / "out") == ["2", "5"]
    manifest = json.loads((tmp_path / "out/videophy2_train/meta.json").read_text())
    assert [entry.get("category") for entry in manifest] == [None, "fluids"]
    failed = [json.loads(line) for line in (tmp_path / "out/videophy2_train/failures.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in failed] == ["no score in column 'pc'"] * 2


def test_one_table_for_both_splits_is_told(copy: Path, tmp_path: Path) -> None:
    (copy / "data.csv").write_text(f"{HEADER}\nclip0.mp4,x,,4,1,0\n")
    note = f"note: both splits get the rows of {copy / 'data.csv'}, so validation will be on what was trained"
    assert note in prepare(copy, tmp_path / "out")
    assert "note:" not in prepare(copy, tmp_path / "out", "--split", "val")
    (copy / "videophy2_test.csv").write_text(f"{HEADER}\nclip1.mp4,x,,4,1,0\n")
    assert "note:" not in prepare(copy, tmp_path / "other")


def test_a_parquet_file_may_be_named(copy: Path, tmp_path: Path) -> None:
    parquet(copy / "mine.parquet", [row(0, joint=True), row(1, joint=False)])
    prepare(copy / "mine.parquet", tmp_path / "out", "--split", "val", "--score-field", "joint")
    assert answers(tmp_path / "out", "val") == ["yes", "no"]


def test_each_split_has_its_own_table_where_both_lie_in_one_folder(copy: Path, tmp_path: Path) -> None:
    parquet(copy / "train-0.parquet", [row(0, pc=1)])
    parquet(copy / "test-0.parquet", [row(1, pc=2)])
    prepare(copy, tmp_path / "parquet")
    (copy / "videophy2_training.csv").write_text(f"{HEADER}\nclip0.mp4,,,3,1,0\n")
    (copy / "videophy2_test.csv").write_text(f"{HEADER}\nclip1.mp4,,,4,1,0\n")
    prepare(copy, tmp_path / "csv")
    found = [answers(tmp_path / kind, split) for kind in ("parquet", "csv") for split in ("train", "val")]
    assert found == [["1"], ["2"], ["3"], ["4"]]


def test_the_validation_rows_are_never_taken_for_training(copy: Path, tmp_path: Path) -> None:
    parquet(copy / "test-0.parquet", [row(1, pc=2)])
    assert "there is no table" in prepare(copy, tmp_path / "out", "--split", "train", code=2)


def test_a_broken_parquet_file_is_named(copy: Path, tmp_path: Path) -> None:
    (copy / "train.parquet").write_bytes(b"PAR1 rubbish")
    said = prepare(copy, tmp_path / "out", "--split", "train", code=2)
    assert "train.parquet" in said
    assert "cannot be read" in said
    parquet(copy / "train.parquet", [{"url": "x"}])
    assert "lacks the columns video_url, pc; it has url" in prepare(copy, tmp_path / "out", "--split", "train", code=2)
