"""A child of a launch: it ends with its parent, and hears of a stop from nobody else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cosmos_core.launch.parent import child_command
from cosmos_core.launch.signals import stops_blocked
from cosmos_core.refs import Ref
from cosmos_core.stop_signals import STOP_SIGNALS

WAITING = Ref("tests.unit.launch.test_parent:waiting")


def waiting(file: str) -> int:
    """A program that says that it runs, and then does nothing."""
    Path(file).touch()
    time.sleep(600)
    return 0


def wait_until_there(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_whose_parent_is_gone_before_it_could_ask_the_kernel_ends_itself(tmp_path: Path) -> None:
    command = child_command(WAITING, str(tmp_path / "runs"))
    command[2] = str(os.getppid())
    assert subprocess.run([sys.executable, *command], timeout=120).returncode == 1
    assert not (tmp_path / "runs").exists()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys\n"
        "from cosmos_core.launch.parent import child_command\n"
        "from cosmos_core.refs import Ref\n"
        f"command = child_command(Ref({WAITING.text!r}), sys.argv[1])\n"
        "print(subprocess.Popen([sys.executable, *command]).pid, flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "runs")]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    wait_until_there(tmp_path / "runs")
    parent.kill()
    parent.communicate()
    assert not psutil.wait_procs([child], timeout=60)[1]


@pytest.mark.parametrize("at_once", [True, False], ids=["while it starts", "while it runs"])
def test_signals_of_a_stop_are_dropped_unless_the_parent_ends_it(tmp_path: Path, at_once: bool) -> None:
    with stops_blocked():
        child = subprocess.Popen([sys.executable, *child_command(WAITING, str(tmp_path / "runs"))])
    if not at_once:
        wait_until_there(tmp_path / "runs")
    sender = f"import os; [os.kill({child.pid}, number) for number in {[int(number) for number in STOP_SIGNALS]}]"
    subprocess.run([sys.executable, "-c", sender], check=True)
    wait_until_there(tmp_path / "runs")
    time.sleep(0.2)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 0
