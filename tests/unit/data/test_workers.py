"""Loader workers that hang are replaced, and every sample still comes once and in order; killed ones end the run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from traceback import StackSummary

import pytest
import torch
from torch.distributed.checkpoint import CheckpointException

from cosmos_core.data import workers
from cosmos_core.data.workers import lost_workers_explained, read_in_workers
from cosmos_core.errors import RankLost, UserError
from tests.unit.logged import logged

TIMEOUT = 2.5
"""Seconds; forking a worker must take less."""


class Hanging(torch.utils.data.Dataset[int]):
    """Hangs at item 5, `times` times."""

    def __init__(self, folder: Path, times: int) -> None:
        self.folder, self.times = folder, times

    def __getitem__(self, position: int) -> int:
        tries = len(list(self.folder.iterdir()))
        if position == 5 and tries < self.times:
            (self.folder / str(tries)).touch()
            time.sleep(3600)
        return position * 10


def read(dataset: Hanging) -> list[int]:
    items = read_in_workers(
        dataset, range(12), num_workers=1, prefetch_factor=2, timeout=TIMEOUT, name=lambda position: f"clip {position}"
    )
    return list(items)


def test_after_a_hang_each_item_comes_once_and_in_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with logged() as lines:
        assert read(Hanging(tmp_path, 1)) == [10 * position for position in range(12)]
    assert any(f"workers gave nothing for {TIMEOUT} seconds; the next sample is clip 5" in line for line in lines)
    assert "in __getitem__" in capfd.readouterr().err


def test_a_sample_that_always_hangs_ends_the_run_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "REPLACED", 1)
    with pytest.raises(UserError, match="2 times in a row") as raised:
        read(Hanging(tmp_path, 99))
    assert "clip 5" in raised.value.problems[0].message
    assert len(list(tmp_path.iterdir())) == 2


class Killed(Hanging):
    """Its worker is killed at item 5."""

    def __getitem__(self, position: int) -> int:
        if position == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return position


def test_a_worker_that_is_killed_ends_the_run_with_a_plain_message(tmp_path: Path) -> None:
    with pytest.raises(RankLost, match="a loader worker was lost") as raised, lost_workers_explained():
        read(Killed(tmp_path, 0))
    [problem] = raised.value.problems
    assert problem.message.startswith("DataLoader worker (pid")
    assert "num_workers" in problem.hint


def test_a_worker_that_is_killed_during_a_save_is_told_the_same_way(tmp_path: Path) -> None:
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    with pytest.raises(RankLost, match="a loader worker was lost"), lost_workers_explained():
        raise CheckpointException("write", {0: (killed, StackSummary())})


def test_other_errors_are_no_lost_workers() -> None:
    with pytest.raises(RuntimeError, match="^the kernel failed$"), lost_workers_explained():
        raise RuntimeError("the kernel failed")
