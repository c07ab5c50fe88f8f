"""A run in a real terminal, made narrower and wider, and ended with Ctrl-C; a conversation in one."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.command import ROOT
from tests.tiny_reasoner import write_reasoner

STEPS = 100_000
OPTIONS = (
    f"trainer.max_iter={STEPS} trainer.grad_accum_iter=8 trainer.validation_iter=20 trainer.logging_iter=10 "
    f"checkpoint.save_iter=60 scheduler.cycle_lengths=[{STEPS}] --output-root runs"
)
STATUS = re.compile(rf"step (\d+)/{STEPS} ━*─+   0%  loss \d+\.\d{{4}}  eta \d+:\d\d:\d\d")
STARTS = ("step ", "lr ", "validation at ", "saved runs/", "plugins: ", "warning: ")
HEIGHT = 40


class Screen:
    """A terminal of tmux, with a program in it."""

    def __init__(self, name: str, command: str, folder: Path, width: int) -> None:
        self.name = name
        size = ("-x", str(width), "-y", str(HEIGHT))
        self._tmux("new-session", "-d", *size, "-c", str(folder), f"{command}; echo exit $?; sleep 1000")

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(["tmux", "-u", "-L", self.name, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def lines(self) -> list[str]:
        """Rows of the screen; one that the terminal wrapped is longer than it is wide."""
        return [line.rstrip() for line in self._tmux("capture-pane", "-p", "-J").rstrip().splitlines()]

    def wait(self, pattern: str) -> list[str]:
        """The lines as soon as one matches."""
        deadline = time.monotonic() + 180
        lines = self.lines()
        while not any(re.search(pattern, line) for line in lines):
            assert time.monotonic() < deadline, f"no {pattern} in\n" + "\n".join(lines)
            time.sleep(0.2)
            lines = self.lines()
        return lines

    def resize(self, width: int) -> None:
        self._tmux("resize-window", "-x", str(width), "-y", str(HEIGHT))

    def press(self, key: str) -> None:
        self._tmux("send-keys", key)

    def type(self, line: str) -> None:
        """A line and Enter."""
        self._tmux("send-keys", "-l", line)
        self.press("Enter")

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.name, "kill-server"], capture_output=True)


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[Screen]:
    yield from opened(f"run hello {OPTIONS}", tmp_path, 60)


@pytest.fixture
def conversation(tmp_path: Path) -> Iterator[Screen]:
    write_reasoner(tmp_path / "reasoner")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    yield from opened("chat reasoner --max-tokens 4000", tmp_path, 100)


def opened(arguments: str, folder: Path, width: int) -> Iterator[Screen]:
    """A screen with a `cosmos` command in it."""
    if shutil.which("tmux") is None:
        assert not os.environ.get("CI"), "install tmux: this test needs a real terminal"
        pytest.skip("needs tmux")
    command = f"env -u CI -u NO_COLOR -u COLUMNS {shlex.quote(sys.executable)} -m cosmos_core {arguments}"
    # A server of its own for each test: the one before may still be ending.
    name = f"cosmos-{os.getpid()}-{folder.name}"
    screen = Screen(name, f"PYTHONPATH={shlex.quote(_python_path())} {command}", folder, width)
    yield screen
    screen.close()


def _python_path() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def status(lines: list[str], width: int) -> int:
    """The step that the screen shows; checks that each line is whole, and only one is the bar."""
    assert all(len(line) <= width for line in lines), lines
    bars = [match for match in map(STATUS.fullmatch, lines) if match is not None]
    assert len(bars) == 1, lines
    bottom = lines[lines.index(bars[0].string) :]
    assert re.fullmatch(r"lr \d\.\d\de-\d\d  grad \d+\.\d{3}  [\d,]+ tokens/s( .*)?", bottom[1]), lines
    assert re.fullmatch(r"validation at step \d+  loss \d+\.\d{4}", bottom[2]), lines
    assert len(bottom) == 3 or bottom[3].startswith(("saving iter_", "validating ")), lines
    above = lines[: lines.index(bars[0].string)]
    events = [line for line in above if re.match(r"step \d|saved |validation at |lr ", line)]
    for line in events:
        assert re.fullmatch(
            rf"step \d+/{STEPS}: validation loss \d+\.\d{{4}}|saved runs/cosmos3/sft/hello/checkpoints/iter_\d{{9}}",
            line,
        ), lines
    assert any(line.startswith("step ") for line in events)
    return int(bars[0][1])


def settled(screen: Screen, width: int, after: int) -> int:
    """A step other than `after`, from a whole screen; one that is being drawn is looked at again."""
    deadline = time.monotonic() + 10  # Short: what a wrong width leaves behind must not have scrolled away.
    while True:
        lines = screen.wait(rf"step (?!{after}/)\d+/{STEPS} ")
        try:
            step = status(lines, width)
            assert ("elapsed" in "".join(lines)) == (width > 60), lines
            return step
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_run_fits_its_terminal_at_every_width_and_says_what_ctrl_c_does(screen: Screen, tmp_path: Path) -> None:
    screen.wait(rf"step \d+/{STEPS}: validation")
    screen.wait(r"step 2\d/")
    seen = [settled(screen, 60, 0)]
    for width in (120, 80, 60):
        screen.resize(width)
        time.sleep(1)
        seen.append(settled(screen, width, seen[-1]))
    screen.wait("saved ")
    assert seen == sorted(set(seen))
    screen.resize(120)
    screen.press("C-c")
    lines = screen.wait("exit ")
    assert "saving a checkpoint and stopping; Ctrl-C or SIGTERM after 5 seconds ends at once" in " ".join(lines)
    assert lines[-1] == "exit 130"
    assert not any(STATUS.fullmatch(line) for line in lines)
    assert any(re.match(rf"interrupted at step \d+/{STEPS}, loss ", line) for line in lines)
    log = (tmp_path / "runs/cosmos3/sft/hello/logs/rank_0.log").read_text()
    assert "\x1b" not in log
    assert log.count("validation loss") >= 2
    assert re.search(rf"step 10/{STEPS}: loss \d", log)
    assert "Ctrl-C or SIGTERM after 5 seconds" in log


def test_a_conversation_shows_answers_as_they_come_and_ctrl_c_ends_only_the_answer(conversation: Screen) -> None:
    conversation.wait(r"^you> *$")
    conversation.type("/image red.png")
    conversation.wait("red.png goes with the next message")
    conversation.type("What is it?")
    before = conversation.wait(r"^you> What is it\?$")
    deadline = time.monotonic() + 180
    while conversation.lines() == before:  # The answer has begun.
        assert time.monotonic() < deadline
        time.sleep(0.1)
    conversation.press("C-c")
    conversation.press("Enter")
    conversation.wait(r"^you> *$")
    conversation.type("/help")
    conversation.wait("/reset        forget the conversation")
    conversation.press("C-d")
    assert conversation.wait("exit ")[-1] == "exit 0"
