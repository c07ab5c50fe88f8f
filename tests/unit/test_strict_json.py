"""JSON of users: whatever stands in a file, reading gives its value or one error with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cosmos_core.errors import UserError
from cosmos_core.strict_json import MAX_DEPTH, loads, read_object


def test_values_are_read_as_they_stand() -> None:
    assert loads('{"a": [1, 2.5, "é", null, 1e400]}') == {"a": [1, 2.5, "é", None, float("inf")]}
    assert loads('"\\ud83d\\ude00"') == "😀"
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert len(loads("[" + ",".join(["{}"] * 1000) + "]")) == 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[" * 100_000 + "]" * 100_000, "levels", id="nested 100,000 deep"),
        pytest.param("[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "levels", id="nested a little too deep"),
        pytest.param('{"a":' * 5000 + "1" + "}" * 5000, "levels", id="nested objects"),
        pytest.param("9" * 5000, "digits", id="thousands of digits"),
        pytest.param('{"a": "\\ud800"}', "surrogate", id="half a character"),
        pytest.param('["\\uDFFF"]', "surrogate", id="the other half"),
        pytest.param('{"a": 1, "b": {"c": 1, "c": 1}}', "'c' twice", id="a name twice"),
        pytest.param("[1", "Expecting", id="cut off"),
        pytest.param("", "Expecting", id="empty"),
    ],
)
def test_what_cannot_be_used_is_a_value_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loads(text)


def test_files_of_other_programs_may_repeat_a_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": 1, "a": 2}')
    assert read_object(tmp_path / "config.json") == {"a": 2}


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"[]", None, "is not a JSON object"),
        (b'{\n"a": }', 2, "is not JSON: Expecting value"),
        ("{}".encode("utf-16"), 1, "UTF-16"),
        (b"\xff\x80", 1, "is not UTF-8"),
        (b"[" * 100_000, None, "levels"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error(tmp_path: Path, content: bytes, line: Any, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        read_object(path, "nothing was started")
    (problem,) = refused.value.problems
    assert (problem.file, problem.line, refused.value.title) == (str(path), line, "nothing was started")
    assert message in problem.message


@pytest.mark.parametrize("name", ["nothing.json", "folder", "loop", "a\0b", "x" * 300, "\ud800"])
def test_a_place_that_is_no_file_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as refused:
        read_object(tmp_path / name)
    assert len(refused.value.problems) == 1
