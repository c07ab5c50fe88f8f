"""Samples and losses of a mixture's members in the rows of steps, and what reaches the console."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from cosmos_core.builtin.config import Console
from cosmos_core.builtin.trackers.console import ConsoleTracker
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.train.build import build_loader
from cosmos_core.train.family import StepOutput
from cosmos_core.train.member_metrics import MemberMetrics, on_host
from tests.unit.train.runs import PLUGINS, ready

MIXTURE = (
    "dataloader_train.dataset=null",
    'dataloader_train.mixture=[{type="tiny",weight=3,count=40},{type="tiny",name="rare",weight=1,count=9,seed=3}]',
    "trainer.run_validation=false",
    "model.noise=0.0",
)


def rows_of(root: Path, *overrides: str) -> list[dict[str, Any]]:
    trainer, rows = ready(root, *MIXTURE, *overrides)
    trainer.train()
    return rows


def test_a_members_loss_is_that_of_a_batch_of_its_samples_alone(tmp_path: Path) -> None:
    trainer, rows = ready(tmp_path, *MIXTURE, "dataloader_train.max_samples_per_batch=12")
    loader = build_loader(trainer.config.dataloader_train, trainer.family, PLUGINS, local_mesh())
    assert loader is not None
    (pack,) = islice(loader, 1)
    expected = {}
    for name in ("tiny", "rare"):
        items = [item for item in pack.items if item.dataset == name]
        batch = trainer.family.collate(items)
        with torch.no_grad():
            loss = trainer.family.training_step(trainer.model, batch, CounterRng(0)).loss
        expected[name] = len(items), float(loss) / trainer.family.loss_denominator(batch)
    trainer.train()
    assert {name: count for name, (count, _) in expected.items()} == {"tiny": 9, "rare": 3}
    for name, (count, mean) in expected.items():
        assert rows[0][f"samples/{name}"] == count
        assert rows[0][f"loss/{name}"] == pytest.approx(mean, rel=1e-6)


def test_pieces_that_accumulate_count_as_one_batch_does(tmp_path: Path) -> None:
    whole = rows_of(tmp_path / "a", "dataloader_train.max_samples_per_batch=12")
    pieces = rows_of(tmp_path / "b", "dataloader_train.max_samples_per_batch=4", "trainer.grad_accum_iter=3")
    names = ("samples/tiny", "samples/rare", "loss/tiny", "loss/rare")
    for one, other in zip(whole, pieces, strict=True):
        assert [one[name] for name in names] == pytest.approx([other[name] for name in names], rel=1e-4)
    assert isinstance(whole[0]["samples/rare"], int)


def test_a_member_without_samples_in_a_step_has_no_loss_there(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "dataloader_train.max_samples_per_batch=1")
    assert {row["samples/rare"] + row["samples/tiny"] for row in rows} == {1}
    for row in rows:
        assert [name for name in ("rare", "tiny") if f"loss/{name}" in row] == [
            name for name in ("rare", "tiny") if row[f"samples/{name}"]
        ]
        present = "rare" if row["samples/rare"] else "tiny"
        assert row[f"loss/{present}"] == row["loss"]


def test_data_of_one_dataset_adds_nothing_and_a_family_that_tells_no_losses_adds_counts() -> None:
    output = StepOutput(loss=torch.tensor(1.0), tokens=3)
    single = MemberMetrics((), torch.device("cpu"))
    assert single.sums([output], [("", "")]).tolist() == []
    assert single.metrics(torch.zeros(0), has_losses=True) == {}
    two = MemberMetrics(("a", "b"), torch.device("cpu"))
    sums = two.sums([output, output], [("b", "b"), ("a", "b")])
    assert on_host({name: float(value) for name, value in two.metrics(sums, has_losses=False).items()}) == {
        "samples/a": 1,
        "samples/b": 3,
    }


def test_the_console_shows_the_losses_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    tracker = ConsoleTracker(Console())
    row = {"step": 1, "loss": 0.5, "lr": 0.1, "grad_norm": 1.0, "tokens": 3, "seconds": 1.0, "data_wait": 0.0}
    tracker.log({**row, "samples/a": 3, "loss/a": 0.41, "samples/b": 0})
    *_, line = capsys.readouterr().err.splitlines()
    assert ", a 0.4100" in line
    assert ", b " not in line
