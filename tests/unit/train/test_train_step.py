"""One optimizer step: figures that arrive later, steps that are skipped wholly, what families add to the log."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve

from cosmos_core.builtin.callbacks.grad_clip import GradClipCallback
from cosmos_core.builtin.config import GradClip
from cosmos_core.builtin.tiny.family import Points, TinyFamily
from cosmos_core.config import RunConfig
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import CounterRng, local_mesh
from cosmos_core.errors import RunFailed
from cosmos_core.optim.ema import beta
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import BuildContext, Callback, StepOutput, Trainer
from cosmos_core.train.metrics import AsyncMetrics
from cosmos_core.train.parts import collated
from cosmos_core.train.tracker import TrackerGroup
from tests.benchmarks.running import batches_of, fresh_model, trainer_of

FAMILY: Any = SimpleNamespace(collate=lambda items: TinyFamily.collate(None, items))  # type: ignore[arg-type]


class Faulty(TinyFamily):
    """Loss and gradients are infinite in packs whose first sample is among `bad`, the loss alone among `lost`.

    It logs the largest target."""

    bad: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()

    def training_step(self, model: torch.nn.Module, batch: Points, rng: CounterRng) -> StepOutput:
        output = super().training_step(model, batch, rng)
        factor = float("inf") if batch.positions[0] in self.bad else 1.0
        lost = float("inf") if batch.positions[0] in self.lost else 0.0
        targets = batch.points[:, 2].abs().sum()
        return StepOutput(loss=output.loss * factor + lost, tokens=output.tokens, metrics={"target": targets})


def config_of(fused: bool, lr_multipliers: dict[str, float], **trainer: Any) -> RunConfig:
    config = load("hello", plugins=PluginManager.discover())
    model = evolve(config.model, ema=evolve(config.model.ema, enabled=True))
    return evolve(
        config,
        model=model,
        optimizer=evolve(config.optimizer, fused=fused, lr_multipliers=lr_multipliers),
        trainer=evolve(config.trainer, **trainer),
    )


def run_with(
    bad: tuple[int, ...],
    *,
    fused: bool = True,
    force_finite: bool = False,
    lr_multipliers: dict[str, float] | None = None,
    **trainer: Any,
) -> Trainer:
    config, mesh = config_of(fused, lr_multipliers or {}, **trainer), local_mesh()
    family = Faulty(config.model, BuildContext(mesh.device, config.dataloader_train))
    family.bad = bad
    run = trainer_of(config, family, fresh_model(config, family, mesh, CounterRng(7)), mesh)
    clip = GradClip(clip_norm=1.0, force_finite=force_finite)
    run.callbacks = {"grad_clip": GradClipCallback(clip, None)}  # type: ignore[arg-type]
    return run


def items_from(first: int, samples: int) -> list[Item]:
    points = np.random.default_rng(first).standard_normal((samples, 5, 3)).astype(np.float32)
    return [Item(place, torch.from_numpy(value), f"sample {place}") for place, value in enumerate(points, first)]


def packs(samples: int = 2) -> Iterator[MicroBatch]:
    for first in count(0, samples):
        yield collated(MicroBatch(items_from(first, samples), {}, 0.5), FAMILY, 1)


def state_of(run: Trainer) -> dict[str, torch.Tensor]:
    """Weights, averages, moments and counts of updates."""
    found = {f"weight {name}": value.detach().clone() for name, value in run.model.named_parameters()}
    assert run.ema is not None
    found |= {f"average {name}": value.clone() for name, value in run.ema.shadows.items()}
    for number, values in enumerate(run.optimizer.state.values()):
        found |= {f"{name} {number}": value.clone() for name, value in values.items()}
    return found


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_with_infinite_gradients_changes_nothing_but_the_schedule(fused: bool) -> None:
    run, stream = run_with((4,), fused=fused), packs()
    for _ in range(2):
        run.train_step(stream)
    before, rate = state_of(run), run.scheduler.get_last_lr()
    run.train_step(stream)
    assert same(state_of(run), before)
    assert run.step == run.record["step"] == 3
    assert run.scheduler.get_last_lr() != rate
    assert not np.isfinite(run.record["grad_norm"])
    run.train_step(stream)
    assert not same(state_of(run), before)
    assert np.isfinite(run.record["grad_norm"])


def test_the_average_takes_the_weights_of_its_own_step_after_the_update() -> None:
    run, stream = run_with(()), packs()
    assert run.ema is not None
    parameters = dict(run.model.named_parameters())
    expected = {name: value.detach().clone() for name, value in parameters.items()}
    for step in range(1, 6):
        run.train_step(stream)
        share = 1 - beta(step - 1, run.ema.power)
        for name, value in expected.items():
            value.lerp_(parameters[name].detach(), share)
            torch.testing.assert_close(run.ema.shadows[name], value, rtol=1e-6, atol=0)


def test_too_many_skipped_steps_in_a_row_end_the_run() -> None:
    run, stream = run_with((0, 4, 6), max_consecutive_nan=2), packs()
    for _ in range(3):
        run.train_step(stream)
    with pytest.raises(RunFailed, match="step 4: loss inf") as failed:
        run.train_step(stream)
    blamed, reason = failed.value.problems
    assert blamed.message == "rank 0, micro-batch 0, loss inf, samples sample 6, sample 7"
    assert "2 such steps in a row" in reason.message


def test_the_guard_judges_gradients_before_force_finite_repairs_them() -> None:
    run, stream = run_with((2,), force_finite=True), packs()
    run.train_step(stream)
    before = state_of(run)
    run.train_step(stream)
    assert not np.isfinite(run.record["grad_norm"])
    assert same(state_of(run), before)


def test_a_loss_that_is_not_finite_skips_the_update_although_its_gradients_are() -> None:
    run, stream = run_with(()), packs()
    run.family.lost = (2,)  # type: ignore[attr-defined]
    run.train_step(stream)
    before = state_of(run)
    run.train_step(stream)
    assert np.isfinite(run.record["grad_norm"])
    assert not np.isfinite(run.record["loss"])
    assert same(state_of(run), before)


def test_stop_ends_the_run_at_the_first_step_that_is_not_finite() -> None:
    run, stream = run_with((2,), on_nonfinite="stop"), packs()
    run.train_step(stream)
    with pytest.raises(RunFailed, match="step 2"):
        run.train_step(stream)


def test_weights_that_are_not_finite_end_the_run_at_once_and_are_never_saved() -> None:
    run, stream = run_with(()), packs()
    run.train_step(stream)
    with torch.no_grad():
        next(run.model.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(RunFailed, match="not finite after step 1"):
        run.save()
    with pytest.raises(RunFailed) as failed:
        run.train_step(stream)
    assert "weights themselves" in " ".join(problem.message for problem in failed.value.problems)


def test_every_group_logs_its_own_rate_under_what_it_multiplies() -> None:
    run = run_with((), lr_multipliers={"head": 0.1, "embed": 0.0})
    run.train_step(packs())
    run.train_step(packs())
    rate = run.record["lr"]
    assert rate > 0
    assert run.record["lr/head"] == pytest.approx(0.1 * rate)
    assert run.record["lr/embed"] == 0.0


def test_the_row_of_a_step_has_the_means_of_all_micro_batches_and_what_the_family_adds() -> None:
    whole, cut = run_with((), grad_accum_iter=1), run_with((), grad_accum_iter=2)
    whole.train_step(packs(4))
    points = items_from(0, 4)
    halves = [MicroBatch(points[:2], {}, 0.25), MicroBatch(points[2:], {}, 0.75)]
    cut.train_step(batches_of(cut, halves))
    for name in ("loss", "grad_norm", "tokens", "target"):
        assert cut.record[name] == pytest.approx(whole.record[name], rel=1e-5)
    targets = torch.cat([item.value for item in points])[:, 2].abs()
    assert whole.record["target"] == pytest.approx(float(targets.mean()), rel=1e-6)
    assert (whole.record["pack_filled"], cut.record["pack_filled"]) == (0.5, 0.5)


class NoMetrics(AsyncMetrics):
    """Drops what it is given."""

    def push(self, *arguments: Any) -> None:
        pass


@pytest.mark.parametrize("fused", [True, False])
def test_a_run_without_metrics_trains_the_same_weights_moments_and_average(fused: bool) -> None:
    found = []
    for metrics in (AsyncMetrics(), NoMetrics()):
        run, stream = run_with((4,), fused=fused), packs()
        run.metrics = metrics
        for _ in range(5):
            run.train_step(stream)
        found.append(state_of(run))
    assert same(*found)


class Breaking(Callback):
    """Fails before a step."""

    def step_start(self, trainer: Trainer) -> None:
        raise RuntimeError("broken")


def test_the_last_steps_row_is_logged_when_a_run_fails_and_judged_by_none() -> None:
    """On an accelerator the row of a step is read a step later. Ranks judge together, and one may fail alone."""
    run, logged = run_with(()), []
    run.train_step(packs())
    row = {**run.record, "loss": float("nan")}
    values = {name: torch.tensor(row[name]) for name in ("loss", "grad_norm", "tokens")}
    run.metrics.push({"step": 1}, values, [], {})
    run.trackers = TrackerGroup({"list": SimpleNamespace(log=logged.append)})  # type: ignore[dict-item]
    run.loader = packs()  # type: ignore[assignment]
    run.callbacks = {"breaking": Breaking(None, None)}  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="broken"):
        run.train()
    assert [one["step"] for one in logged] == [1]
    assert (run.guard.judged, run.guard.in_a_row) == (1, 0)


def test_a_step_after_an_evaluation_trains() -> None:
    run, stream = run_with(()), packs()
    run.model.eval()
    run.train_step(stream)
    assert all(module.training for module in run.model.modules())
