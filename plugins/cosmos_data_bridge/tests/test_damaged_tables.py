"""Tables and tars that are damaged or name what no file can be called: one error with file and row."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from cosmos_core.errors import UserError
from cosmos_data_bridge.folder.listing import Listing, Source
from cosmos_data_bridge.folder.media import MediaFolder


def refusal(source: Path) -> UserError:
    with pytest.raises(UserError) as refused:
        read(source)
    return refused.value


def read(source: Path) -> None:
    listing = Listing.of(Source(source))
    listing.entries(MediaFolder(source.parent / "media") if listing.packed else None)


def test_offsets_outside_an_arrow_file_are_found_before_they_are_followed(tmp_path: Path) -> None:
    out, table = io.BytesIO(), pa.table({"video": [b"one", b"two"], "text": ["x", "y"]})
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 3, 6))
    assert offsets in out.getvalue()
    (tmp_path / "t.arrow").write_bytes(out.getvalue().replace(offsets, offsets[:8] + (2**31 - 1).to_bytes(4, "little")))
    (problem,) = refusal(tmp_path / "t.arrow").problems
    assert problem.file == str(tmp_path / "t.arrow")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b.mp4", "x/" * 3000])
def test_a_path_that_no_file_can_have_is_told_with_its_row(tmp_path: Path, name: str) -> None:
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "caption"], [name, "a ball"]])
    (problem,) = refusal(tmp_path / "t.csv").problems
    assert (problem.file, problem.line) == (str(tmp_path / "t.csv"), 2)
    assert len(problem.message) < 300


@pytest.mark.parametrize("name", ["/a.mp4", "../a.mp4", "x/../../a.txt"])
def test_a_name_that_leads_out_of_a_tar_is_told(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    (problem,) = refusal(tmp_path / "t.tar").problems
    assert (problem.file, problem.message) == (str(tmp_path / "t.tar"), f"{name} lies outside of it")


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5000, '"\\ud800"'])
def test_json_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, value: str) -> None:
    row = json.dumps({"path": "a.mp4", "caption": "@"}).replace('"@"', value)
    (tmp_path / "t.jsonl").write_text(row + "\n")
    (tmp_path / "a.mp4").write_bytes(b"")
    (problem,) = refusal(tmp_path / "t.jsonl").problems
    assert (problem.file, problem.line) == (str(tmp_path / "t.jsonl"), 1)
    (tmp_path / "t.jsonl").unlink()
    (tmp_path / "a.json").write_text('{"caption": ' + value + "}")
    (problem,) = refusal(tmp_path).problems
    assert problem.file == str(tmp_path / "a.json")


def test_a_tar_with_names_that_no_file_can_have_is_one_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name in (f"{'x' * 300}.mp4", f"{'x' * 300}.txt"):
            archive.addfile(tarfile.TarInfo(name))
    assert refusal(tmp_path / "t.tar").problems
