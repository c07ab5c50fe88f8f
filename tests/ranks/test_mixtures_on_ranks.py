"""A mixture on two ranks counts, trains and resumes as on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.command import cosmos, metric_records

MIXTURE = (
    "dataloader_train.dataset=null",
    'dataloader_train.mixture=[{type="tiny",weight=3,count=40},{type="tiny",name="rare",weight=1,count=9,seed=3}]',
    "trainer.run_validation=false",
    "scheduler.cycle_lengths=[8]",
    "scheduler.warm_up_steps=[1]",
    "model.noise=0.3",
)
NAMES = ("samples/tiny", "samples/rare", "loss/tiny", "loss/rare", "loss")


def train(root: Path, steps: int, batch: int, *options: str) -> list[list[Any]]:
    settings = (*MIXTURE, f"trainer.max_iter={steps}", f"dataloader_train.max_samples_per_batch={batch}")
    cosmos("run", "hello", *settings, *options, "--output-root", str(root))
    return [[row[name] for name in NAMES] for row in metric_records(next(root.glob("cosmos3/*/*")))]


@pytest.mark.ranks
def test_two_ranks_then_one_count_and_train_as_one_does_at_once(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone", 8, 12)
    train(tmp_path / "moved", 4, 6, "--nproc", "2", "dataloader_train.num_workers=1")
    moved = train(tmp_path / "moved", 8, 12)
    assert len(alone) == len(moved) == 8
    for one, other in zip(alone, moved, strict=True):
        assert one == pytest.approx(other, rel=2e-5)
