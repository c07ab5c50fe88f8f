"""Tables at every width: nothing is cut, and nothing is wider than the terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from cosmos_core.cli.output import table_lines
from tests.command import cosmos

COLUMNS = ["name", "repository", "summary"]
ROWS = [
    ["Cosmos3-Super-Text2Image-4Step", "nvidia/Cosmos3-Super-Text2Image-4Step", "Generator, text to image in 4 steps"],
    ["Edge", "nvidia/Edge", "Generator"],
]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_table_fits_and_loses_no_word(width: int) -> None:
    lines = table_lines(COLUMNS, ROWS, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert all(word in words for row in ROWS for cell in row for word in cell.split())


def test_the_last_column_wraps_below_itself() -> None:
    lines = table_lines(["name", "summary"], [["a", "one two three four five six seven eight"]], 34)
    assert lines == ["name  summary", "a     one two three four five six", "      seven eight"]


def test_rows_become_blocks_where_the_terminal_is_narrow() -> None:
    assert table_lines(COLUMNS, ROWS[1:], 26) == ["Edge", "  repository  nvidia/Edge", "  summary     Generator"]


def test_rows_have_one_line_each_where_no_terminal_is() -> None:
    assert len(table_lines(COLUMNS, ROWS, None)) == 3
    piped = cosmos("checkpoints", "list").stdout.splitlines()
    assert all("  " in line and line == line.rstrip() for line in piped)
    assert "nvidia/Cosmos3-Super-Text2Image-4Step" in "".join(piped)


@pytest.mark.parametrize("command", [["checkpoints", "list"], ["plugins", "list"], ["recipes", "list"]], ids=" ".join)
@pytest.mark.parametrize("width", [60, 80, 120])
def test_lists_fit_a_terminal(command: list[str], width: int) -> None:
    main, terminal = pty.openpty()
    env = {**os.environ, "COLUMNS": str(width)}
    with subprocess.Popen([sys.executable, "-m", "cosmos_core", *command], stdout=terminal, env=env):
        os.close(terminal)
        text = b""
        while chunk := _read(main):
            text += chunk
    lines = text.decode().splitlines()
    assert lines
    assert max(map(len, lines)) <= width


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""


def test_plugins_are_listed_with_numbers_of_what_they_provide() -> None:
    row = next(line for line in cosmos("plugins", "list").stdout.splitlines() if line.startswith("vfm "))
    assert row.endswith("task vfm, 2 callbacks, 8 checkpoints, 2 converters, 2 commands, checks natten")
