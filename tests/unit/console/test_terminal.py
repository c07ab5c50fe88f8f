"""Lines at the bottom of a terminal fit it, log lines appear above, and elsewhere there are plain lines."""

from __future__ import annotations

import io
import os
import re
import sys

import pytest
from rich.console import Console

from cosmos_core.console.layout import amount, bar_line, clock, fit, number
from cosmos_core.console.task_progress import progress
from cosmos_core.console.terminal import Terminal, is_terminal, kept, show, show_beside

DETAILS = ["lr 1.00e-03", "grad 0.512", "12,345 tokens/s", "data wait 3%", "packs 95% full"]
MAIN = ["loss 0.1234", "eta 12:34:56"]
CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class TerminalStream(io.StringIO):
    """Looks like a terminal."""

    def isatty(self) -> bool:
        return True


def rows(written: str) -> list[str]:
    """What a terminal shows after `written`; it knows the control codes that rich uses."""
    shown, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", written):
        code = CONTROL.fullmatch(part)
        if part == "\n":
            row, column = row + 1, 0
            shown += [""] * (row + 1 - len(shown))
        elif part == "\r":
            column = 0
        elif code is not None and code[2] == "A":
            row -= int(code[1])
        elif code is not None and code[2] == "K":
            shown[row] = ""
        elif code is None:
            shown[row] = shown[row][:column].ljust(column) + part + shown[row][column + len(part) :]
            column += len(part)
    return shown


@pytest.mark.parametrize("steps", ["step 1/9", "step 120/2000", "step 100000/200000"])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_step_percentage_loss_and_time_left_are_seen_at_every_width(width: int, steps: str) -> None:
    line = bar_line(steps, 0.5, MAIN, width)
    assert len(line) <= width
    assert line.startswith(f"{steps} ")
    assert line.endswith("  50%  loss 0.1234  eta 12:34:56")
    bar = line.removeprefix(f"{steps} ").partition(" ")[0]
    assert bar.count("━") + bar.count("─") == len(bar) >= 5
    assert abs(bar.count("━") - bar.count("─")) <= 1


def test_wider_terminals_get_more_and_no_field_is_cut() -> None:
    shown = [fit(DETAILS, width).split("  ") for width in range(20, 120)]
    assert all(fields == DETAILS[: len(fields)] for fields in shown)
    assert [len(fields) for fields in shown] == sorted(len(fields) for fields in shown)
    assert len(fit(DETAILS, 60).split("  ")) == 4
    assert fit(DETAILS, 120).split("  ") == DETAILS


def test_the_bar_goes_first_then_the_last_fields() -> None:
    assert bar_line("step 1/9", 0.111, MAIN, 45) == "step 1/9   11%  loss 0.1234  eta 12:34:56"
    assert bar_line("step 1/9", 0.111, MAIN, 30) == "step 1/9   11%  loss 0.1234"


def test_amounts_and_times_read_well() -> None:
    assert amount(3 * 2**29, 2**31, "bytes") == "1.5 of 2.0 GiB"
    assert amount(2**20, 5 * 2**20, "bytes") == "1 of 5 MiB"
    assert amount(3, 8000, "clips") == "3 of 8,000 clips"
    assert clock(45296) == "12:34:56"
    values = (0.12345, -3.0, 123456.7, 7, float("nan"))
    assert [number(value) for value in values] == ["0.1235", "-3.0000", "123,457", "7", "nan"]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_log_lines_stay_whole_above_the_lines_at_the_bottom(width: int) -> None:
    stream = TerminalStream()
    terminal = Terminal(Console(file=stream, force_terminal=True, width=width, color_system=None))
    warning = f"skipped {'/'.join(['folder'] * 8)}/clip.mp4: it ends after 12345.678 seconds"
    with terminal.kept(lambda columns: bar_line("step 1/9", 0.1, MAIN, columns)), terminal.kept(lambda _: ""):
        terminal.show("first")
        with terminal.kept(lambda columns: fit(["saving", "1.5 of 2.0 GiB"], columns)):
            terminal.show(warning)
            during = rows(stream.getvalue())
        terminal.show("last")
    after = rows(stream.getvalue())
    assert [line for line in after if line] == [*[line for line in during if line][:-2], "last"]
    assert during[-2:] == [bar_line("step 1/9", 0.1, MAIN, width - 1), "saving  1.5 of 2.0 GiB"]
    assert " ".join(line.rstrip() for line in during[1:-2]) == warning
    assert all(len(line.rstrip()) <= max(width, len(warning.split()[1])) for line in during)


def test_a_narrower_terminal_leaves_no_rest_of_a_wrapped_line() -> None:
    stream = TerminalStream()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None)
    terminal = Terminal(console)
    with terminal.kept(lambda columns: "x" * columns):
        terminal.show("above")
        console.width = 40
        # A terminal that reflows shows 99 columns in three rows of 40, and the cursor stays behind the last one.
        history, _, rest = stream.getvalue().rpartition("x" * 99)
        wrapped = history + "\n".join(["x" * 40, "x" * 40, "x" * 19]) + rest
        before = len(stream.getvalue())
        terminal.show("after")
    assert [row for row in rows(wrapped + stream.getvalue()[before:]) if row] == ["above", "after"]


@pytest.mark.parametrize("name", ["TERM", "NO_COLOR", "CI"])
def test_the_environment_can_ask_for_plain_lines(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    stream = TerminalStream()
    monkeypatch.setattr(sys, "stderr", stream)
    for variable, value in (("TERM", "xterm"), ("NO_COLOR", ""), ("CI", "")):
        monkeypatch.setenv(variable, value)
    assert is_terminal()
    monkeypatch.setenv(name, "dumb")
    assert not is_terminal()
    with kept(lambda columns: "at the bottom"):
        show("a line")
        show_beside("another")
    lines = (stream.getvalue() + "").splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d a line", lines[0])
    assert "\x1b" not in stream.getvalue()
    assert "at the bottom" not in stream.getvalue()


def test_progress_is_a_line_every_few_seconds_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with progress("writing", 10, "clips") as writing, progress("beside", 10, "clips", shown=False) as beside:
        for _ in range(10):
            now[0] += 2
            writing.advance()
            beside.advance()
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "writing: 3 of 10 clips, 30%, eta 0:00:14",
        "writing: 6 of 10 clips, 60%, eta 0:00:08",
        "writing: 9 of 10 clips, 90%, eta 0:00:02",
    ]


def test_long_work_goes_on_when_nobody_reads_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosmos_core.console.task_progress.EVERY", 0.0)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(os.dup(writer), "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("validating", 2, "samples") as validating:
            validating.advance()
            validating.advance()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # What it holds has to go somewhere.
    os.close(writer)
    assert validating.done == 2


def test_short_work_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("writing", 2, "clips") as writing:
        writing.advance(2)
    assert capsys.readouterr().err == ""


def test_progress_fits_the_terminal() -> None:
    with progress("loading weights", unit="bytes", shown=False) as loading:
        assert loading.line(60) == "loading weights"
        loading.total += 4 * 2**30
        loading.advance(2**30)
        line = loading.line(60)
    assert re.fullmatch(r"loading weights ━+─+  25%  1\.0 of 4\.0 GiB  eta 0:00:00", line)
    assert len(line) <= 60


def test_only_rank_0_shows_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("cosmos_core.console.task_progress.EVERY", 0.0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, shown in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        with progress("writing", 2, "clips") as writing:
            writing.advance(2)
        assert capsys.readouterr().err.count("writing: 2 of 2 clips") == shown
