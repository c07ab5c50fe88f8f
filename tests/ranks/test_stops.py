"""Stops as clusters, terminals and tools send them: to the launcher, to its group, to every process, more than once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from cosmos_core.launch.stop import SAME_STOP_SECONDS
from tests.command import Start, metric_records
from tests.ranks.test_kill_and_resume import directory, reached, wait_for

LONG = (
    "run",
    "hello",
    "trainer.max_iter=100000",
    "trainer.run_validation=false",
    "checkpoint.save_iter=100000",
    "trainer.logging_iter=3000",
    "model.hidden=512",
    "model.layers=4",
    "dataloader_train.num_workers=2",
)


def command(root: Path, *extra: str) -> tuple[str, ...]:
    return (*LONG, "job.name=run", *extra, "--output-root", str(root))


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The process and everything below it."""
    top = psutil.Process(process.pid)
    return [top, *top.children(recursive=True)]


def send(process: subprocess.Popen[str], number: signal.Signals, target: str) -> None:
    if target == "launcher":
        process.send_signal(number)
    elif target == "group":
        os.killpg(process.pid, number)
    else:
        for member in tree(process):
            with suppress(psutil.NoSuchProcess):  # It may have ended since it was listed.
                member.send_signal(number)


def wait_for_request(run_dir: Path) -> None:
    """Until the signal is handled, which a busy machine may delay: a launcher writes a file, a run alone logs it."""
    deadline = time.monotonic() + 60
    files, log = [run_dir / ".stop_requested", run_dir / "outcome.json"], run_dir / "logs/rank_0.log"
    while not (any(file.exists() for file in files) or "finishing the step" in log.read_text()):
        assert time.monotonic() < deadline, "nothing heard of the signal"
        time.sleep(0.002)


def steps(run_dir: Path) -> int:
    return max(record["step"] for record in metric_records(run_dir))


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("ranks", "number", "target", "code"),
    [
        (2, signal.SIGTERM, "every process", 75),
        (2, signal.SIGINT, "every process", 130),
        (1, signal.SIGHUP, "every process", 75),
        (1, signal.SIGUSR2, "group", 75),
    ],
)
def test_a_stop_saves_within_two_steps(
    tmp_path: Path, ranks: int, number: signal.Signals, target: str, code: int, start: Start
) -> None:
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, "--nproc", str(ranks)), forked=True)
    wait_for(reached(run_dir, 2), process)
    members = tree(process)
    assert len(members) >= 3 * ranks
    send(process, number, target)
    wait_for_request(run_dir)
    signalled = steps(run_dir)
    time.sleep(0.05)
    send(process, number, target)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == code
    assert "Traceback" not in stderr
    assert "Warning" not in stderr
    assert stderr.count("finishing the step, then saving a checkpoint and stopping") == 1
    outcome = json.loads((run_dir / "outcome.json").read_text())
    assert outcome["outcome"] == {75: "stopped", 130: "interrupted"}[code]
    assert outcome["step"] <= signalled + 3, "a step may have ended that was not written yet"
    assert (run_dir / f"checkpoints/iter_{outcome['step']:09d}").is_dir()
    assert not psutil.wait_procs(members, timeout=60)[1]
    assert not list(run_dir.glob(".stop*"))


@pytest.mark.ranks
@pytest.mark.parametrize(("ranks", "seconds"), [(1, 1.0), (2, 2.0)])
def test_a_stop_while_starting_is_not_lost(tmp_path: Path, ranks: int, seconds: float, start: Start) -> None:
    process = start(*command(tmp_path, "--nproc", str(ranks)))
    time.sleep(seconds)
    send(process, signal.SIGTERM, "every process")
    stderr = process.communicate(timeout=180)[1]
    assert process.returncode == 75, stderr
    assert "Traceback" not in stderr
    run_dir = directory(tmp_path, "run")
    saved = list((run_dir / "checkpoints").glob("iter_*")) if run_dir.is_dir() else []
    assert len(saved) <= 1, "on a fast machine the first step may be done"


STOPPED_AT_THE_DATA = """
import sys

if "run" in sys.orig_argv:
    import importlib, os, signal

    module = importlib.import_module("cosmos_core.train.run")
    opened = module.open_data

    def open_data(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return opened(*arguments)

    module.open_data = open_data
"""


@pytest.mark.ranks
def test_a_stop_before_any_step_says_that_nothing_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    (tmp_path / "sitecustomize.py").write_text(STOPPED_AT_THE_DATA)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    process = start(*command(tmp_path))
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 75, stderr
    assert "stopped before this launch took a step: there is nothing to save" in stderr
    assert not list((directory(tmp_path, "run") / "checkpoints").glob("iter_*"))


HANGING_SAVE = """
import sys

if {"run", "cosmos_core.train.worker:main"} & set(sys.orig_argv):
    import importlib, time

    def save(job, components, mesh):
        while True:
            time.sleep(0.01)

    importlib.import_module("cosmos_core.checkpoint.job").SaveJob.carry_out = save
"""


@pytest.mark.ranks
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_later_signal_ends_at_once_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, start: Start
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING_SAVE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, "--nproc", str(ranks)))
    wait_for(reached(run_dir, 1), process)
    members = tree(process)
    process.send_signal(signal.SIGTERM)
    wait_for_request(run_dir)
    time.sleep(SAME_STOP_SECONDS + 0.2)
    process.send_signal(signal.SIGUSR1)
    time.sleep(0.3)
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert time.monotonic() - begun < 30, "the save never ends"
    assert "Traceback" not in stderr
    assert json.loads((run_dir / "outcome.json").read_text())["outcome"] == "interrupted"
    assert not psutil.wait_procs(members, timeout=60)[1]


@pytest.mark.ranks
def test_ranks_of_an_outer_torchrun_stop_when_all_of_them_are_signalled(tmp_path: Path, start: Start) -> None:
    """torchrun's own agent ends with 1 for any exit code of a rank."""
    ranks = ("--standalone", "--nproc-per-node", "2", "-m", "cosmos_core")
    process = start(*ranks, *command(tmp_path), module="torch.distributed.run")
    run_dir = directory(tmp_path, "run")
    wait_for(reached(run_dir, 2), process)
    send(process, signal.SIGTERM, "every process")
    stderr = process.communicate(timeout=120)[1]
    outcome = json.loads((run_dir / "outcome.json").read_text())
    assert outcome["outcome"] == "stopped", stderr
    assert (run_dir / f"checkpoints/iter_{outcome['step']:09d}").is_dir()
