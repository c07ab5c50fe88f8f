"""What a run tells: of weights that a load left out, of the schedule, and in the row of a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cosmos_core.builtin.tiny.family import TinyFamily
from cosmos_core.checkpoint.load import Loaded
from cosmos_core.config import Ema, ModelConfig
from cosmos_core.plan.schedule import factor
from cosmos_core.train.weights import log_differences
from tests.unit.logged import logged
from tests.unit.train.runs import ready

ADAPTER = "layers.0.up.lora_A.weight"


@pytest.mark.parametrize(
    ("brings", "init", "start"),
    [
        (True, "pretrained", "the model's own pretrained files"),
        (True, "random", "fresh values, as model.init = 'random' gives them"),
        (False, "pretrained", "fresh values, as model.init = 'random' gives them"),
    ],
)
def test_tensors_that_a_checkpoint_lacked_are_named_with_what_filled_them(brings: bool, init: str, start: str) -> None:
    class Model(ModelConfig):
        brings_weights = brings

    loaded = Loaded(frozenset({"a"}), frozenset({"a"}), ("net.x.0", "net.x.1"))
    with logged() as lines:
        log_differences(Model(init=init), loaded, ["b.0.c", "b.1.c", ADAPTER], ["d"])
    assert lines == [
        f"not loaded from the checkpoint, filled with {start}: b.*.c (2)",
        "adapters that start fresh: layers.*.up.lora_A.weight",
        "averages that the checkpoint lacks start at the weights: d",
        "left unused in the checkpoint: net.x.* (2)",
    ]


def test_a_load_that_left_nothing_out_is_not_told_of() -> None:
    config = ModelConfig(init="random", ema=Ema())
    with logged() as lines:
        log_differences(config, Loaded(frozenset({"a"}), frozenset({"a"})), [], [])
        # A checkpoint without any average has none that could be missed.
        log_differences(config, Loaded(frozenset({"a"})), [], ["a"])
    assert lines == []


def test_a_start_from_weights_tells_what_it_lacked_and_another_start_has_nothing_to_tell(tmp_path: Path) -> None:
    first, _ = ready(tmp_path / "first", "model.ema.enabled=true")
    first.train()
    base = first.paths.iteration(6) / "model"
    with logged("cosmos_core.train") as lines:
        ready(tmp_path / "first", "model.ema.enabled=true")
        ready(tmp_path / "fresh", "model.ema.enabled=true")
        assert lines == []
        options = ('checkpoint.keys_to_skip_loading=["head"]', "checkpoint.strict_resume=false")
        ready(tmp_path / "second", *options, "model.ema.enabled=true", f"checkpoint.load_path={base}")
    assert [line.partition(":")[0] for line in lines] == [
        "not loaded from the checkpoint, filled with fresh values, as model.init = 'random' gives them",
        "averages that the checkpoint lacks start at the weights",
        "left unused in the checkpoint",
    ]


def test_the_schedules_factor_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    for interval, steps in ((0, []), (4, [4]), (2, [2, 4, 6])):
        trainer, _ = ready(tmp_path / str(interval), f"scheduler.verbosity_interval={interval}")
        with logged("cosmos_core.train.trainer") as lines:
            trainer.train()
        scheduler = trainer.config.scheduler
        told = [line for line in lines if line.startswith("step ")]
        assert told == [f"step {step}: learning-rate factor {factor(scheduler, step):g}" for step in steps]


def test_the_row_of_a_step_has_the_rate_of_its_update_and_the_tokens_of_all_its_packs(tmp_path: Path) -> None:
    options = ("trainer.grad_accum_iter=3", "dataloader_train.max_sequence_length=9", "trainer.run_validation=false")
    trainer, rows = ready(tmp_path, *options)
    packs = iter(ready(tmp_path / "same", *options)[0].loader)
    trainer.train()
    config = trainer.config
    for step, row in enumerate(rows, 1):
        step_packs = [next(packs) for _ in range(3)]
        assert row["lr"] == pytest.approx(config.optimizer.lr * factor(config.scheduler, step - 1))
        assert row["tokens"] == sum(len(item.value) for pack in step_packs for item in pack.items)
        shares = [pack.packing_efficiency for pack in step_packs]
        assert row["pack_filled"] == pytest.approx(sum(share or 0.0 for share in shares) / 3)
        assert 0 <= row["data_wait"] <= row["seconds"] < 60
    assert trainer.loader_state == step_packs[-1].state


def test_the_row_of_a_step_sums_the_operations_of_its_micro_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = TinyFamily.training_step
    monkeypatch.setattr(TinyFamily, "training_step", lambda *arguments: replace(step(*arguments), flops=2.5e12))
    trainer, rows = ready(tmp_path, "trainer.grad_accum_iter=3", "trainer.max_iter=2", "trainer.run_validation=false")
    trainer.train()
    assert [row["tflop"] for row in rows] == [7.5, 7.5]


def test_a_step_without_a_cap_on_tokens_tells_no_share(tmp_path: Path) -> None:
    trainer, rows = ready(tmp_path, "trainer.max_iter=1")
    trainer.train()
    assert all("pack_filled" not in row for row in rows)


def test_a_run_of_two_epochs_reports_its_data_at_the_end(tmp_path: Path) -> None:
    trainer, _ = ready(tmp_path)
    with logged("cosmos_core.data.loader") as lines:
        trainer.train()
    assert lines[-1].startswith("at the end: skipped 3 of ")


def test_steps_count_micro_batches_by_what_they_hold(tmp_path: Path) -> None:
    """Loss and gradients are those of one batch of all points, however unevenly the packs are cut."""
    options = ("dataloader_train.dataset.broken=0", "model.noise=0", "trainer.run_validation=false")
    trainer, rows = ready(tmp_path, *options, "trainer.grad_accum_iter=2", "trainer.max_iter=1")
    items = [item for _, pack in zip(range(2), trainer.loader, strict=False) for item in pack.items]
    points = torch.cat([item.value for item in items])
    model: nn.Module = trainer.model
    loss = (model(points[:, :2])[:, 0] - points[:, 2]).square().mean()
    norm = torch.stack([one.square().sum() for one in torch.autograd.grad(loss, list(model.parameters()))]).sum().sqrt()
    trainer.train()
    assert rows[0]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert rows[0]["grad_norm"] == pytest.approx(norm.item(), rel=1e-5)


def test_a_multiplier_of_what_does_not_train_is_told_of(tmp_path: Path) -> None:
    options = ('optimizer.keys_to_select=["head"]', "optimizer.lr_multipliers={embed=0.5, head=0.5}")
    with logged("cosmos_core.train.build") as lines:
        ready(tmp_path, *options)
    assert lines == ["optimizer.lr_multipliers has no effect for what does not train: embed"]
