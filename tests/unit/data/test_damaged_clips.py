"""Records of clips that no program wrote: absurd numbers, deep nesting, changes after they were listed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.data.jsonl import ClipFilter, captions_of, read_clips
from cosmos_core.errors import UserError

EVERY_CLIP = ClipFilter(61.0, 0, 1)
WINDOW = {"start_frame": 0, "end_frame": 8, "caption": "a ball"}
RECORD: dict[str, Any] = {"uuid": "a", "vision_path": "a.mp4", "duration": 1.0, "t2w_windows": [WINDOW]}


def written(folder: Path, text: str) -> Path:
    (folder / "c.jsonl").write_text(text, encoding="utf-8")
    return folder / "c.jsonl"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("duration", "1" + "0" * 400, "is beyond 2,147,483,647"),
        ("duration", "1e400", "is beyond 2,147,483,647"),
        ("duration", "NaN", "is beyond 2,147,483,647"),
        ("width", "9" * 5000, "a number of more than 4300 digits"),
        ("nb_frames", "9223372036854775808", "is beyond 2,147,483,647"),
        ("vision_path", '"' + "x" * 300 + '"', "has a name of 300 bytes"),
        ("vision_path", '"a\\u0000b"', "holds a NUL character"),
        ("uuid", '"\\ud800"', "half of a character"),
        ("other", "[" * 100_000, "levels of lists and objects"),
    ],
)
def test_what_no_clip_has_is_an_error_with_the_line(tmp_path: Path, key: str, value: str, message: str) -> None:
    line = json.dumps({**RECORD, key: "@"}).replace('"@"', value)
    with pytest.raises(UserError) as refused:
        read_clips(written(tmp_path, json.dumps(RECORD) + "\n" + line + "\n"), tmp_path, EVERY_CLIP)
    (problem,) = refused.value.problems
    assert problem.line == 2
    assert message in problem.message
    assert len(problem.message) < 1000


def test_a_record_that_changes_after_it_was_listed_is_an_unreadable_sample(tmp_path: Path) -> None:
    file = written(tmp_path, json.dumps(RECORD) + "\n")
    (clip,) = read_clips(file, tmp_path, EVERY_CLIP).clips
    for other in ("{}", "[1]", '{"t2w_windows": 3}', '{"t2w_windows": []}', '{"t2w_windows": [3]}', "", "\udcff"):
        file.write_bytes(other.encode("utf-8", "surrogateescape"))
        with pytest.raises(UnreadableSample, match="changed since"):
            captions_of(clip, clip.windows[0])


@pytest.mark.parametrize("damage", ["cut", "bits", "text", "empty tail"])
def test_a_damaged_gzip_is_one_error_with_the_file(tmp_path: Path, damage: str) -> None:
    whole = gzip.compress((json.dumps(RECORD) + "\n").encode() * 100)
    content = {
        "cut": whole[:-20],
        "bits": whole[:30] + b"\xff\xff" + whole[32:],
        "text": b'{"uuid": 3}',
        "empty tail": whole + b"\0\1\2",
    }[damage]
    (tmp_path / "c.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"c\.jsonl\.gz cannot be read"):
        read_clips(tmp_path / "c.jsonl.gz", tmp_path, EVERY_CLIP)
