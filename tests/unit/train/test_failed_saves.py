"""A disk that does not take a checkpoint: a second try, then training goes on for a while, then one clear error."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

import pytest

from cosmos_core.checkpoint import SaveFailed
from cosmos_core.checkpoint import save as save_module
from cosmos_core.plan.leftovers import leftover_bytes
from cosmos_core.train import Trainer, saves
from cosmos_core.train.agreement import CollectiveError
from tests.unit.logged import logged
from tests.unit.train.runs import Listening, ready, steps_of
from tests.unit.train.test_background_saves import kill_saver

READ_ONLY = OSError(30, "Read-only file system")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the disk takes each of the coming loader states; it takes all after these."""
    answers: list[bool] = []
    synced_file = save_module.synced_file

    def opened(path: Path) -> AbstractContextManager[BinaryIO]:
        if path.parent.name == "dataloader" and answers and not answers.pop(0):
            path.write_bytes(b"half")
            raise READ_ONLY
        return synced_file(path)

    monkeypatch.setattr(save_module, "synced_file", opened)
    return answers


def test_a_save_that_fails_once_is_repeated_and_nothing_half_written_stays(tmp_path: Path, disk: list[bool]) -> None:
    trainer, _ = ready(tmp_path)
    disk[:] = [False]
    with logged("cosmos_core") as lines:
        assert trainer.train() == "done"
    assert steps_of(trainer) == [2, 4, 6]
    (line,) = (line for line in lines if "could not be written" in line)
    assert "step 2" in line
    assert "Read-only file system" in line
    assert "once more" in line
    assert leftover_bytes(trainer.paths.checkpoints) == 0


def test_training_goes_on_after_failed_saves_and_a_later_one_counts_from_zero(tmp_path: Path, disk: list[bool]) -> None:
    trainer, rows = ready(tmp_path, "trainer.max_iter=10", "checkpoint.max_failed_saves=1")
    disk[:] = [False, False, True, False, False, True]
    assert trainer.train() == "done"
    assert steps_of(trainer) == [4, 8, 10]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 11))


def test_too_many_failed_saves_end_the_run_with_the_last_good_checkpoint(tmp_path: Path, disk: list[bool]) -> None:
    trainer, _ = ready(tmp_path, "trainer.max_iter=20", "checkpoint.max_failed_saves=1")
    disk[:] = [True, *[False] * 4]
    with pytest.raises(SaveFailed, match="step 6 could not be written; earlier ones are complete"):
        trainer.train()
    assert steps_of(trainer) == [2]
    assert trainer.paths.latest.read_text() == "iter_000000002\n"


@pytest.mark.parametrize("allowed", [0, 1])
def test_a_save_in_the_background_that_fails_again_in_the_foreground_counts_once(
    tmp_path: Path, disk: list[bool], monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    monkeypatch.setattr(saves, "MIN_BACKGROUND_BYTES", 0)
    trainer, _ = ready(tmp_path, f"checkpoint.max_failed_saves={allowed}", listening=Listening(kill_saver))
    disk[:] = [False, False]
    if not allowed:
        with pytest.raises(SaveFailed, match="step 3 could not be written"):
            trainer.train()
        assert steps_of(trainer) == []
        return
    with logged("cosmos_core") as lines:
        assert trainer.train() == "done"
    assert steps_of(trainer) == [4, 6]
    failed = [line.split(";")[-1] for line in lines if "could not be written" in line]
    assert failed == [" a new process does the next ones", " trying once more", " training goes on"]


def test_the_last_save_of_a_run_must_succeed(tmp_path: Path, disk: list[bool]) -> None:
    trainer, _ = ready(tmp_path, "trainer.max_iter=3", "checkpoint.save_iter=100")
    disk[:] = [False, False]
    with pytest.raises(SaveFailed, match="step 3"):
        trainer.train()


def test_a_file_in_place_of_the_checkpoints_fails_the_save_after_a_failure_and_callbacks_hear_of_it(
    tmp_path: Path,
) -> None:
    def fail(trainer: Trainer, event: str) -> None:
        if (event, trainer.step) == ("step_start", 1):
            raise CollectiveError("bad data")

    listening = Listening(fail)
    trainer, _ = ready(tmp_path, "trainer.max_iter=2", listening=listening)
    trainer.paths.checkpoints.parent.mkdir(parents=True, exist_ok=True)
    trainer.paths.checkpoints.write_text("a file")
    with pytest.raises(SaveFailed, match="step 1"):
        trainer.train()
    assert listening.events[-1] == ("failed", 1)
