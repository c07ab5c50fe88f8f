"""Saves that go on in a process of their own while training does."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cosmos_core.plan.manifest import verify
from cosmos_core.train import Trainer, saves
from tests.command import running_children
from tests.unit.logged import logged
from tests.unit.train.runs import Listening, ready, steps_of


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also tiny states are saved in the background."""
    monkeypatch.setattr(saves, "MIN_BACKGROUND_BYTES", 0)


def savers() -> list[psutil.Process]:
    return running_children("cosmos_core.checkpoint.saving_process:main")


def in_order(lines: list[str]) -> list[str]:
    """What was done with which step's checkpoint."""
    matches = [re.match(r"(saving|saved|removed) .*?iter_0*(\d+)", line) for line in lines]
    return [f"{match[1]} {match[2]}" for match in matches if match is not None]


def test_it_saves_what_the_weights_were_and_tells_of_complete_checkpoints_alone(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    def hear(trainer: Trainer, event: str) -> None:
        if event == "checkpoint_saved":
            told.append((trainer.paths.latest.read_text().strip(), trainer.saved_step))

    plain, _ = ready(tmp_path / "plain", "checkpoint.async_save=false", "checkpoint.keep_last=2")
    with logged("cosmos_core") as lines:
        assert plain.train() == "done"
    assert in_order(lines) == ["saved 2", "saved 4", "saved 6", "removed 2"]
    trainer, _ = ready(tmp_path / "beside", "checkpoint.keep_last=2", listening=Listening(hear))
    with logged("cosmos_core") as lines:
        assert trainer.train() == "done"
    assert not savers()
    assert steps_of(trainer) == [4, 6]
    assert told == [("iter_000000002", 2), ("iter_000000004", 4), ("iter_000000006", 6)]
    for part in ("model", "optim", "dataloader"):
        for path in (plain.paths.iteration(4) / part).glob("[!.]*"):
            same = trainer.paths.iteration(4) / part / path.name
            assert same.read_bytes() == path.read_bytes(), path
    assert verify(trainer.paths.iteration(4)) == []
    assert in_order(lines) == ["saving 2", "saved 2", "saving 4", "saved 4", "saved 6", "removed 2"]
    pattern = r"saved \S+/iter_000000004: training waited \d+\.\d\d s, \d+\.\d s in the background"
    assert any(re.fullmatch(pattern, line) for line in lines)


def kill_saver(trainer: Trainer, event: str, steps: tuple[int, ...] = (2,)) -> None:
    """While it writes the checkpoints of these steps."""
    if event == "step_start" and trainer.step in steps:
        (saver,) = savers()
        saver.kill()
        while saver.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)


@pytest.mark.parametrize("killed", [1, 2])
def test_where_a_saver_is_killed_the_save_is_tried_once_more_and_another_one_saves_until_that_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: int
) -> None:
    clock = [0.0]

    def hear(trainer: Trainer, event: str) -> None:
        clock[0] += 60 * (event == "step_start")
        kill_saver(trainer, event, (2, 5)[:killed])

    monkeypatch.setattr(saves, "time", SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter))
    due = ("checkpoint.save_iter=20", "checkpoint.save_every_minutes=2", "checkpoint.max_failed_saves=0")
    trainer, _ = ready(tmp_path, "trainer.max_iter=9", *due, listening=Listening(hear))
    with logged("cosmos_core") as lines:
        assert trainer.train() == "done"
    assert in_order(lines) == [
        *("saving 2", "saved 3", "saving 5"),
        *(("saved 5", "saving 7", "saved 7") if killed == 1 else ("saved 6", "saved 8")),
        "saved 9",
    ]
    why = "could not be written: the process that saves ended with SIGKILL; trying once more with the present weights"
    ends = ("a new process does the next ones", "saves block from now on")
    told = [f"the checkpoint of step {step} {why}; {end}" for step, end in zip((2, 5), ends, strict=True)]
    assert [line for line in lines if "could not be written" in line] == told[:killed]
    assert not savers()


def test_a_save_that_goes_on_when_the_run_fails_is_completed(tmp_path: Path) -> None:
    def fail(trainer: Trainer, event: str) -> None:
        if event == "after_backward" and trainer.step == 4:
            raise RuntimeError("planted")

    trainer, _ = ready(tmp_path, listening=Listening(fail))
    with pytest.raises(RuntimeError, match="planted"):
        trainer.train()
    assert steps_of(trainer) == [2, 4]
    assert not savers()


def test_minutes_save_too_and_a_run_without_saves_before_its_end_starts_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, seen = [0.0], []

    def tick(trainer: Trainer, event: str) -> None:
        if event == "step_start":
            clock[0] += 60
            seen.append(len(savers()))

    monkeypatch.setattr(saves, "time", SimpleNamespace(monotonic=lambda: clock[0], perf_counter=time.perf_counter))
    rarely = ("checkpoint.save_iter=6",)
    trainer, _ = ready(tmp_path / "end", *rarely, listening=Listening(tick))
    assert trainer.train() == "done"
    assert steps_of(trainer) == [6]
    minutes = ("checkpoint.save_every_minutes=2", "checkpoint.async_save=false")
    trainer, _ = ready(tmp_path / "minutes", *rarely, *minutes, listening=Listening(tick))
    assert trainer.train() == "done"
    assert steps_of(trainer) == [2, 4, 6]
    assert not any(seen)
