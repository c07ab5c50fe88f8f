"""A rank that hangs is named, with its stack, and all ranks end within the timeout."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil
import pytest

from tests.command import Start, cosmos, metric_records
from tests.ranks.test_kill_and_resume import directory, reached, wait_for
from tests.ranks.test_stops import command, tree

SECONDS = 4
QUICK = ("--nproc", "2", f"trainer.timeout.step={SECONDS}", "checkpoint.save_iter=2", "checkpoint.async_save=false")
"""Saves that training waits for: what goes on in the background may take longer than the limit, and then has no end."""


def injected(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every interpreter run `code` first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def rank_among(members: list[psutil.Process], rank: int) -> psutil.Process:
    """The process of a rank: the topmost with its number in the environment."""
    return next(member for member in members[2:] if member.environ().get("RANK") == str(rank))


def test_limits_may_be_longer_than_the_timers_of_the_system(tmp_path: Path) -> None:
    long = ("trainer.timeout.step=1e308", "trainer.timeout.startup=1e308", "trainer.stop_grace=1e308")
    loader = ("dataloader_train.num_workers=1", "dataloader_train.worker_timeout=1e300")
    cosmos("run", "hello", "trainer.max_iter=6", *long, *loader, "--output-root", str(tmp_path))


def ended(run_dir: Path, stderr: str, members: list[psutil.Process]) -> None:
    assert "Traceback" not in stderr
    assert not psutil.wait_procs(members, timeout=60)[1]
    outcome = json.loads((run_dir / "outcome.json").read_text())
    assert outcome["outcome"] == "failed"
    latest = (run_dir / "checkpoints/latest_checkpoint.txt").read_text().strip()
    assert latest >= "iter_000000002"
    assert not list(run_dir.glob(".beats*"))


LAGGING = """
import os, signal, sys

if os.environ.get("RANK") == "1" and "cosmos_core.train.worker:main" in sys.orig_argv:
    import importlib, time

    trainer = importlib.import_module("cosmos_core.train.trainer")
    fetch, steps = trainer.fetch, []

    def slow_fetch(*arguments, **options):
        steps.append(1)
        time.sleep(0.4)
        if len(steps) == 14:
            time.sleep(1.5)  # For several beats, so that the last one tells of this step.
            os.kill(os.getpid(), signal.SIGSTOP)
        return fetch(*arguments, **options)

    trainer.fetch = slow_fetch
"""


@pytest.mark.ranks
def test_a_rank_that_lags_is_logged_and_one_that_is_suspended_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    injected(LAGGING, tmp_path, monkeypatch)
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, *QUICK, "trainer.logging_iter=1"))
    wait_for(reached(run_dir, 11), process)
    members = tree(process)
    suspended = rank_among(members, 1)
    wait_for(lambda: suspended.status() == psutil.STATUS_STOPPED, process)
    begun = time.monotonic()
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert time.monotonic() - begun < SECONDS + 30, "torchrun alone gives half a minute to a rank that is suspended"
    assert stderr.count("rank 1 holds the others up: they wait") == 1
    assert "error: rank 1 hangs in step 14 (loading data); rank 0 waits for it in all_reduce; " in stderr
    assert "which is stopped (SIGSTOP)" in stderr
    assert f"trainer.timeout.step: is {SECONDS} seconds" in stderr
    ended(run_dir, stderr, members)


STUCK = """
import os, sys

if os.environ.get("RANK") == "1" and "cosmos_core.train.worker:main" in sys.orig_argv:
    import importlib, time

    trainer = importlib.import_module("cosmos_core.train.trainer")
    update, steps = trainer.adamw_step, []

    def waiting_for_a_lock(*arguments):
        while len(steps) > 3:
            time.sleep(0.01)

    def adamw_step(*arguments):
        steps.append(1)
        waiting_for_a_lock()
        update(*arguments)

    trainer.adamw_step = adamw_step
"""


@pytest.mark.ranks
def test_a_rank_that_is_stuck_in_python_is_named_with_its_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    injected(STUCK, tmp_path, monkeypatch)
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, *QUICK))
    wait_for(reached(run_dir, 2), process)
    members = tree(process)
    stderr = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "error: rank 1 hangs in step 4 (update); rank 0 waits for it in all_reduce; " in stderr
    assert "in waiting_for_a_lock" in stderr
    assert metric_records(run_dir)[-1]["step"] <= 4
    ended(run_dir, stderr, members)
