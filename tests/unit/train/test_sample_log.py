"""Every sample that was trained on is written once, also over a stop in the middle and lines of lost steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_core.train import Trainer
from tests.unit.train.runs import ready

LOGGED = ("trainer.log_samples=true", "trainer.grad_accum_iter=2", "trainer.run_validation=false")


def rows(trainer: Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trainer.paths.samples(0).read_text().splitlines()]


def test_the_log_holds_step_micro_batch_rank_and_key_of_every_sample(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path, *LOGGED)
    trainer.train()
    logged = rows(trainer)
    assert {(row["step"], row["micro_batch"]) for row in logged} == {(step, n) for step in range(1, 7) for n in (0, 1)}
    assert len(logged) == 6 * 2 * 5
    assert {row["rank"] for row in logged} == {0}
    assert len({row["key"] for row in logged[:40]}) == 40, "one epoch has each sample once"


def test_a_resumed_run_repeats_the_samples_of_lost_steps_and_no_others(tmp_path: Path) -> None:
    whole, _ = ready(tmp_path / "whole", *LOGGED)
    whole.train()
    first, _ = ready(tmp_path / "cut", *LOGGED, "trainer.max_iter=4", "checkpoint.save_iter=100")
    first.train()
    with first.paths.samples(0).open("a") as file:
        file.write('{"step": 5, "micro_batch": 0, "rank": 0, "key": "lost"}\n{"step": 5, "micro')
    first.paths.samples(3).write_text('{"step": 4, "key": "kept"}\n{"step": 5, "key": "lost"}\n')
    second, _ = ready(tmp_path / "cut", *LOGGED)
    second.train()
    assert rows(second) == rows(whole)
    assert first.paths.samples(3).read_text() == '{"step": 4, "key": "kept"}\n'


def test_nothing_is_written_unless_asked(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path)
    trainer.train()
    assert not trainer.paths.samples(0).exists()
