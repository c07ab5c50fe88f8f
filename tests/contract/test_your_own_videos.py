"""What README's section "Your own videos" says, done as it stands there; the fields that `docs/data.md` has."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from PIL import Image

from cosmos_core.data.dropped import Dropped
from cosmos_data_bridge.folder.writing import Report
from tests.command import ROOT, cosmos
from tests.folder_clips import records, small_video


def section(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8").partition("\n## Your own videos\n")[2].partition("\n## ")[0]


def commands() -> list[list[str]]:
    """The commands of README, with what it says to add to the first and to the last for a CPU."""
    text = section("README.md")
    lines = [shlex.split(line)[1:] for line in re.findall(r"^    (cosmos .+)$", text, re.MULTILINE)]
    add = re.search(r"add `([^`]+)` to the first command and `([^`]+)` to the last", " ".join(text.split()))
    assert add is not None
    return [[*lines[0], *shlex.split(add[1])], *lines[1:-1], [*lines[-1], *shlex.split(add[2])]]


def documented(text: str, before: str) -> list[str]:
    """Names in the first column of the first table after some words."""
    table = text.partition(before)[2].partition("|---|")[2].partition("\n\n")[0]
    return [name for line in table.splitlines()[1:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a person may have it: videos, a picture, and one file that is damaged."""
    place = tmp_path_factory.mktemp("place")
    clips = place / "my_clips"
    clips.mkdir()
    for name in ("a", "b", "c"):
        (clips / f"{name}.mp4").write_bytes(small_video(place))
        (clips / f"{name}.txt").write_text(f"a wall, {name}\n")
    Image.new("RGB", (640, 480), (200, 30, 30)).save(clips / "d.png")
    (clips / "d.json").write_text('{"subjects": [{"description": "a red wall"}]}')
    (clips / "e.mov").write_bytes(b"")
    (clips / "e.txt").write_text("nothing")
    return place


@pytest.fixture(scope="module")
def told(place: Path) -> list[str]:
    """What each command prints."""
    outputs = [cosmos(*arguments, cwd=place) for arguments in commands()]
    return [output.stdout + output.stderr for output in outputs]


def test_the_commands_of_the_readme_train_on_a_folder(told: list[str]) -> None:
    prepared, checked, trained = told
    assert "train: 3 clips\nval: 1 clip\n" in prepared
    assert "left out: 1 x file is empty, e.g. my_clips/e.mov" in prepared
    assert "samples: 3 in all, 3 read; " in checked
    assert "outcome: done\nrun_dir: outputs/train/cosmos3/sft/mine\n" in trained
    assert "frames of all windows are dropped, since a sample has 1 + 4n frames" in trained


def test_the_files_have_the_fields_that_are_documented(told: list[str], place: Path) -> None:
    text = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = [*records(place / "data/mine"), *records(place / "data/mine", "val")]
    assert {name for row in rows for name in row} == set(documented(text, "\n## Captioned clips\n"))
    windows = {name for row in rows for window in row["t2w_windows"] for name in window}
    assert windows == set(documented(text, "\nA window:\n"))
    report = json.loads((place / "data/mine/report.json").read_text())
    names = [field.name for field in fields(Report)]
    assert documented(section("docs/data.md"), "The fields of `report.json`:") == names == list(report)
    reason = documented(section("docs/data.md"), "Each reason:")
    assert sorted(reason) == sorted(field.name for field in fields(Dropped)) == sorted(report["left_out"][0])
    tree = re.findall(
        r"^  ([\w./]+)", section("docs/data.md").partition("data/mine/\n")[2].partition("```")[0], re.MULTILINE
    )
    written = {path.relative_to(place / "data/mine").as_posix() for path in (place / "data/mine").rglob("[!.]*")}
    assert {path for path in written if "." in path} == {path for path in tree if not path.endswith("/")}
