"""Text files of datasets: UTF-8 with or without a byte order mark; others are named with line and encoding."""

from __future__ import annotations

import codecs
import csv
from pathlib import Path

import pytest

from cosmos_core.errors import UserError
from cosmos_core.text_files import csv_fault, csv_reader, read_text


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_utf_8_is_read_with_and_without_a_mark(tmp_path: Path, mark: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(mark + "é\r\nß".encode())
    assert read_text(tmp_path / "a.txt") == "é\r\nß"


@pytest.mark.parametrize(
    ("data", "line", "encoding"),
    [
        ("a\nb\né".encode("latin-1"), 3, "byte 0xe9"),
        (codecs.BOM_UTF8 + b"a\n\xff", 2, "byte 0xff"),
        ("é".encode("utf-16"), 1, "is UTF-16, not"),
        ("é".encode("utf-32"), 1, "is UTF-32, not"),
        ("ab".encode("utf-16-le"), 1, "UTF-16 without a byte order mark"),
    ],
)
def test_other_encodings_are_named_with_their_line(tmp_path: Path, data: bytes, line: int, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UserError) as refused:
        read_text(tmp_path / "a.txt")
    [problem] = refused.value.problems
    assert encoding in problem.message
    assert (problem.file, problem.line) == (str(tmp_path / "a.txt"), line)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path / "absent")


def test_a_csv_may_have_long_fields_and_says_what_is_too_long() -> None:
    rows = list(csv_reader(f"a,b\n1, {'x' * 200_000}\n"))
    assert (rows[0]["a"], len(rows[0]["b"])) == ("1", 200_000)
    with pytest.raises(csv.Error) as refused:
        list(csv_reader("a\n" + "x" * (csv.field_size_limit() + 1)))
    assert csv_fault(refused.value).startswith("a field has more than 16,777,216 characters")
