"""Which checkpoints of a run stay: the newest, those of every so many steps, those that validated best."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import rmtree

import pytest

from cosmos_core.errors import UserError
from cosmos_core.plan.checkpoint import latest_complete
from cosmos_core.plan.leftovers import leftover_bytes
from cosmos_core.plan.manifest import DAMAGED, verify
from cosmos_core.plan.source import Source, find_source
from cosmos_core.train import Trainer
from cosmos_core.train.load_for_eval import load_source
from tests.unit.logged import logged
from tests.unit.train.runs import PLUGINS, Listening, ready, steps_of

EIGHT = ("trainer.max_iter=8", "checkpoint.save_iter=1", "trainer.validation_iter=1", "checkpoint.keep_last=2")


def train(tmp_path: Path, *overrides: str, losses: dict[int, float] | None = None) -> Trainer:
    """Eight steps, each with a validation and a checkpoint. losses: what metrics.jsonl says of validations before."""
    trainer, _ = ready(tmp_path, *EIGHT, *overrides)
    trainer.paths.metrics.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"step": step, "val_loss": loss} for step, loss in (losses or {}).items()]
    trainer.paths.metrics.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert trainer.train() == "done"
    return trainer


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ((), [7, 8]),
        (("checkpoint.keep_last=1",), [8]),
        (("checkpoint.keep_every=3",), [3, 6, 7, 8]),
        (("checkpoint.keep_best.count=1",), [4, 7, 8]),
        (("checkpoint.keep_best.count=2", "checkpoint.keep_every=8"), [2, 4, 7, 8]),
        (('checkpoint.keep_best={mode="max", count=1}',), [1, 7, 8]),
    ],
)
def test_what_stays(tmp_path: Path, overrides: tuple[str, ...], kept: list[int]) -> None:
    losses = {0: 0.01, 1: 3.0, 2: 0.5, 3: float("nan"), 4: 0.4, 5: 2.0, 6: 1.0, 7: 1.5, 8: 1.5}
    trainer = train(tmp_path, *overrides, losses=losses)
    assert steps_of(trainer) == kept
    assert latest_complete(trainer.paths.checkpoints) == trainer.paths.iteration(8)
    assert leftover_bytes(trainer.paths.checkpoints) == 0


def test_all_stay_while_no_validation_has_the_metric_of_the_best(tmp_path: Path) -> None:
    trainer = train(tmp_path, 'checkpoint.keep_best={metric="accuracyy", count=1}', losses={0: 0.5})
    assert steps_of(trainer) == list(range(1, 9))


def test_a_metric_of_the_best_that_validation_lacks_is_told_once_at_the_start(tmp_path: Path) -> None:
    often = ("trainer.max_iter=2", "trainer.validation_iter=1")
    validated = ("trainer.run_validation=true", *often, "checkpoint.keep_last=2")
    trainer, _ = ready(tmp_path, *validated, 'checkpoint.keep_best={metric="val_lss", count=1}')
    with logged() as lines:
        trainer.train()
    told = [number for number, line in enumerate(lines) if "keep_best.metric is 'val_lss'" in line]
    assert "until one has it all checkpoints stay; did you mean 'val_loss'?" in lines[told[0]]
    assert len(told) == 1
    assert told[0] < next(number for number, line in enumerate(lines) if line.startswith("saved "))


def test_all_stay_by_default(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path, "trainer.max_iter=4", "checkpoint.save_iter=1")
    trainer.train()
    assert steps_of(trainer) == [1, 2, 3, 4]


def test_what_is_being_read_stays_until_a_later_save(tmp_path: Path) -> None:
    reading: list[Source] = []

    def read(trainer: Trainer, event: str) -> None:
        if event == "step_start" and trainer.step == 1:
            reading.append(find_source(trainer.paths.root, PLUGINS))
        if event == "step_end" and trainer.step == 6:
            (source,) = reading
            assert source.weights == trainer.paths.iteration(1)
            assert verify(source.weights) == []
            assert steps_of(trainer) == [1, 4, 5]
            reading.clear()

    trainer, _ = ready(tmp_path, *EIGHT, listening=Listening(read))
    trainer.train()
    assert not reading
    assert steps_of(trainer) == [7, 8]
    source = find_source(trainer.paths.root, PLUGINS)
    rmtree(trainer.paths.iteration(8))  # As people may, and runs where file systems have no locks.
    with pytest.raises(UserError, match="the checkpoint is gone; nothing was loaded"):
        load_source(source, trainer.config, plugins=PLUGINS)


def test_a_run_goes_on_from_what_stayed(tmp_path: Path) -> None:
    train(tmp_path)
    trainer, _ = ready(tmp_path, *EIGHT, "trainer.max_iter=9")
    assert trainer.step == 8
    trainer.train()
    assert steps_of(trainer) == [8, 9]


def test_damaged_checkpoints_take_no_place_of_the_one_just_written(tmp_path: Path) -> None:
    first, _ = ready(tmp_path, "trainer.max_iter=6", "checkpoint.save_iter=2")
    first.train()
    for step in (4, 6):
        (first.paths.iteration(step) / DAMAGED).write_text('["model/.metadata is missing"]\n')
    second, _ = ready(tmp_path, *EIGHT, "trainer.max_iter=3", "checkpoint.fallback=true", "checkpoint.keep_last=1")
    assert second.step == 2
    second.train()
    assert latest_complete(second.paths.checkpoints) == second.paths.iteration(3)
    assert steps_of(second) == [3, 4, 6]
    third, _ = ready(tmp_path, *EIGHT, "trainer.max_iter=7", "checkpoint.save_iter=4", "checkpoint.keep_last=2")
    third.train()
    assert steps_of(third) == [4, 7], "both written anew or never damaged"
