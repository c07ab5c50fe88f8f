"""What the guard counts and says of steps that are not finite, and how metrics reach the log."""

from __future__ import annotations

import math

import pytest
import torch
from attrs import evolve
from torch import nn

from cosmos_core.config import TrainerConfig
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import RunFailed
from cosmos_core.train.metrics import AsyncMetrics, StepMetrics
from cosmos_core.train.nonfinite import MicroBatchLoss, NonFiniteGuard
from tests.unit.logged import logged

GOOD, BAD = MicroBatchLoss(1.0, ("a", "b"), "micro-batch 0"), MicroBatchLoss(math.inf, ("c",), "micro-batch 1")


def guard_of(**options: object) -> NonFiniteGuard:
    return NonFiniteGuard(TrainerConfig(**options), nn.Linear(1, 1), local_mesh())  # type: ignore[arg-type]


def row(step: int, loss: float = 1.0, grad_norm: float = 1.0) -> dict[str, float]:
    return {"step": step, "loss": loss, "grad_norm": grad_norm}


def test_skipped_steps_in_a_row_are_counted_and_a_good_one_ends_the_row() -> None:
    guard, found = guard_of(max_consecutive_nan=3), []
    for step, bad in enumerate([False, True, True, False, True], 1):
        guard.judge(row(step, loss=math.nan if bad else 1.0), [GOOD])
        found.append((guard.in_a_row, guard.in_doubt, guard.judged))
    assert found == [(0, False, 1), (1, True, 2), (2, True, 3), (0, False, 4), (1, True, 5)]
    with logged("cosmos_core.train.nonfinite") as said:
        guard.check_at_end(5)
    assert "were skipped, 1 in a row: the weights are those of step 4" in said[0]
    guard.judge(row(6, grad_norm=math.inf), [GOOD])
    with pytest.raises(RunFailed, match="step 7") as error:
        guard.judge(row(7, grad_norm=math.inf), [GOOD])
    assert "3 such steps in a row" in error.value.problems[-1].message


def test_a_guard_that_judged_nothing_has_nothing_to_say_at_the_end() -> None:
    guard_of().check_at_end(9)
    guard = guard_of()
    guard.judge(row(1, loss=math.nan), [BAD])
    with pytest.raises(RunFailed, match="none of the 1 steps up to step 4"):
        guard.check_at_end(4)


def test_samples_with_a_loss_that_is_not_finite_are_named_else_all() -> None:
    other = evolve(GOOD, name="micro-batch 2")
    for batches, named in (([GOOD, BAD], ["micro-batch 1"]), ([GOOD, other], ["micro-batch 0", "micro-batch 2"])):
        with pytest.raises(RunFailed) as error:
            guard_of(on_nonfinite="stop").judge(row(3, loss=math.inf), batches)
        *problems, reason = error.value.problems
        assert [problem.message.split(", ")[1] for problem in problems] == named
        assert all(problem.message.startswith("rank 0, ") for problem in problems)
        assert "on_nonfinite" in reason.message


def test_a_skipped_step_is_logged_with_what_is_to_blame() -> None:
    guard = guard_of()
    with logged() as lines:
        guard.judge(row(1), [GOOD])
        guard.judge(row(2, loss=math.inf), [GOOD, BAD])
        guard.judge(row(3, grad_norm=math.nan), [GOOD])
    assert lines == [
        "step 2 is skipped (1 in a row): loss inf, gradient norm 1; rank 0, micro-batch 1, loss inf, samples c",
        "step 3 is skipped (2 in a row): loss 1, gradient norm nan",
    ]


def test_weights_that_are_not_finite_are_not_saved() -> None:
    guard = guard_of()
    guard.check_before_saving(3)
    guard.model.bias.data.fill_(math.inf)  # type: ignore[union-attr, operator]
    with pytest.raises(RunFailed, match="after step 3"):
        guard.check_before_saving(3)
    guard.judge(row(4), [GOOD])
    with pytest.raises(RunFailed) as error:
        guard.judge(row(5, loss=math.nan), [GOOD])
    assert "the weights themselves" in error.value.problems[-1].message


def test_metrics_are_there_once_after_they_were_pushed() -> None:
    metrics = AsyncMetrics()
    assert not metrics.ready
    assert metrics.flush() is None
    values = {"loss": torch.tensor(2.0), "tokens": torch.tensor(7.0)}
    losses = [torch.tensor(1.0, dtype=torch.bfloat16, requires_grad=True), torch.tensor(3.0)]
    metrics.push({"step": 4, "lr": 0.5}, values, losses, {"first": ("a",), "second": ("b", "c")})
    assert metrics.ready
    kept = [MicroBatchLoss(1.0, ("a",), "first"), MicroBatchLoss(3.0, ("b", "c"), "second")]
    assert metrics.flush() == StepMetrics({"step": 4, "lr": 0.5, "loss": 2.0, "tokens": 7}, kept)
    assert not metrics.ready
    assert metrics.flush() is None
