"""Stops, hangs and lost ranks on two accelerators: what NCCL does must not get in the way.

Run them where there are two: ``python -m pytest tests/gpu``. Each ends within two minutes, whatever happens.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.command import Start, losses, module
from tests.ranks.test_hangs import ended, rank_among
from tests.ranks.test_kill_and_resume import directory, reached, wait_for
from tests.ranks.test_stops import command, send, tree

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two accelerators here, which this needs"),
]
SECONDS = 10
STEPS = 300
TWO = ("--nproc", "2", "checkpoint.save_iter=30", "trainer.deterministic=true")
SHORT = (f"trainer.max_iter={STEPS}", f"scheduler.cycle_lengths=[{STEPS}]")


def test_a_stop_of_every_process_saves(tmp_path: Path, start: Start) -> None:
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, *TWO))
    wait_for(reached(run_dir, 20), process)
    members = tree(process)
    send(process, signal.SIGTERM, "every process")
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 75, stderr
    assert "Traceback" not in stderr
    step = json.loads((run_dir / "outcome.json").read_text())["step"]
    module("cosmos_core", "checkpoints", "verify", str(run_dir / f"checkpoints/iter_{step:09d}"))
    assert not psutil.wait_procs(members, timeout=30)[1]


def test_a_rank_that_hangs_is_named_within_its_timeout(tmp_path: Path, start: Start) -> None:
    """Its peer waits on the device, where only the order of phases tells who is behind."""
    run_dir = directory(tmp_path, "run")
    process = start(*command(tmp_path, *TWO, f"trainer.timeout.step={SECONDS}", "trainer.logging_iter=1"))
    wait_for(reached(run_dir, 33, saved=30), process)
    members = tree(process)
    begun = time.monotonic()
    rank_among(members, 1).send_signal(signal.SIGSTOP)
    stderr = process.communicate(timeout=2 * SECONDS + 40)[1]
    assert process.returncode == 1, stderr
    assert time.monotonic() - begun < 2 * SECONDS + 30
    assert "error: rank 1 hangs in step" in stderr
    ended(run_dir, stderr, members)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    module("cosmos_core", *command(root, *TWO, *SHORT), timeout=100)
    return directory(root, "run")


@pytest.mark.parametrize("launcher", ["ours", "torchrun"])
def test_after_a_killed_rank_the_launch_starts_again_and_resumes_exactly(
    launcher: str, uninterrupted: Path, tmp_path: Path, start: Start
) -> None:
    run_dir = directory(tmp_path, "run")
    if launcher == "ours":
        process = start(*command(tmp_path, *TWO, *SHORT), "--max-restarts", "1")
    else:
        torchrun = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "-m", "cosmos_core")
        process = start(*torchrun, *command(tmp_path, *TWO[2:], *SHORT), module="torch.distributed.run")
    wait_for(reached(run_dir, 33, saved=30), process)
    rank_among([psutil.Process(), *tree(process)], 1).kill()
    stderr = process.communicate(timeout=100)[1]
    assert process.returncode == 0, stderr
    assert losses(run_dir) == losses(uninterrupted)
