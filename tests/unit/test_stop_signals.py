"""A signal that comes while `cosmos` is still being imported ends it as a stop does, without a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cosmos_core.stop_signals import STOP_SIGNALS

SENDING = """
import os, sys

class Sending:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Sending())
"""
RUN = ("run", "hello", "trainer.max_iter=1")
MOMENTS = (
    ("cosmos_core.cli.main", signal.SIGTERM),
    ("click", signal.SIGINT),
    ("click.shell_completion", signal.SIGHUP),
    ("pluggy", signal.SIGUSR1),
    ("cosmos_core.builtin.plugin", signal.SIGUSR2),
    ("cosmos_core.cli.commands.run", signal.SIGTERM),
    ("cosmos_core.launch.train", signal.SIGINT),
)


def signalled(
    folder: Path, module: str, number: signal.Signals, command: tuple[str, ...], *, ignored: bool = False
) -> subprocess.CompletedProcess[str]:
    """A command that gets a signal just before it imports `module`."""
    (folder / "sitecustomize.py").write_text(SENDING.format(module=module, number=int(number)))
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "cosmos_core", *command],
        env={**os.environ, "PYTHONPATH": paths, "IMAGINAIRE_OUTPUT_ROOT": str(folder / "runs")},
        # Not as these tests were started: a shell's background job ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("module", "number"), MOMENTS)
def test_a_run_that_is_stopped_while_it_is_imported_ends_as_a_stopped_one(
    tmp_path: Path, module: str, number: signal.Signals
) -> None:
    done = signalled(tmp_path, module, number, RUN)
    assert done.returncode == (130 if number == signal.SIGINT else 75), done.stderr
    assert done.stderr == f"{number.name}: ended before anything was started\n"
    assert not (tmp_path / "runs").exists()


def test_every_signal_of_a_stop_is_sent_above() -> None:
    assert {number for _, number in MOMENTS} == set(STOP_SIGNALS)


@pytest.mark.parametrize("module", ["click", "cosmos_core.cli.commands.recipes"])
def test_ctrl_c_leaves_no_traceback_of_any_command(tmp_path: Path, module: str) -> None:
    done = signalled(tmp_path, module, signal.SIGINT, ("recipes", "list"))
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_other_commands_end_on_other_signals_as_programs_do(tmp_path: Path) -> None:
    assert signalled(tmp_path, "click", signal.SIGTERM, ("recipes", "list")).returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("command", [("recipes", "list"), ("run", "-h")], ids=" ".join)
def test_an_ignored_signal_stays_ignored(tmp_path: Path, number: signal.Signals, command: tuple[str, ...]) -> None:
    assert signalled(tmp_path, "click", number, command, ignored=True).returncode == 0
