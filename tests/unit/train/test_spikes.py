"""Which steps are spikes, what is said of them, and that a resumed run marks the same."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.train.nonfinite import MicroBatchLoss
from cosmos_core.train.spikes import MIN_STEPS, WINDOW, Spikes, is_spikes_state
from tests.unit.logged import logged
from tests.unit.train.runs import ready

BATCHES = [MicroBatchLoss(3.0, ("a", "b"), "micro-batch 0")]


def row(step: int, loss: float = 1.0, grad_norm: float = 1.0) -> dict[str, Any]:
    return {"step": step, "loss": loss, "grad_norm": grad_norm}


def marked(spikes: Spikes, *rows: dict[str, Any]) -> list[int]:
    """Steps that are marked."""
    return [one["step"] for one in (spikes.marked(one, BATCHES) for one in rows) if "spike" in one]


def test_a_loss_or_norm_far_above_the_last_steps_is_marked_with_its_height_and_its_samples_are_named() -> None:
    draws = random.Random(0)
    spikes = Spikes(10.0, rank=0)
    usual = [row(step, draws.gauss(2, 0.1), draws.lognormvariate(0, 0.4)) for step in range(1, 301)]
    with logged() as lines:
        assert marked(spikes, *usual) == []
        high = spikes.marked(row(301, loss=4.0), BATCHES)
        assert marked(spikes, row(302, grad_norm=50.0), row(303, loss=-5.0), row(304, loss=math.nan)) == [302]
        assert marked(spikes, *usual[:99], row(401, loss=9.0)) == [401]
    assert high["spike"] == pytest.approx(20, rel=0.2), "spreads of 0.1 above 2"
    assert high == {**row(301, loss=4.0), "spike": high["spike"]}
    first, second = lines
    height = f"{high['spike']:.0f} times the usual spread above the median"
    assert first == f"step 301: loss 4 is a spike, {height}; rank 0: micro-batch 0, loss 3, samples a, b"
    assert second.startswith("step 401: loss 9 is a spike")
    assert second.endswith("; 1 more since step 301, see metrics.jsonl")


@pytest.mark.parametrize("trend", [0.97, 1.0, 1.03])
def test_the_noise_at_the_start_and_figures_that_fall_rise_or_stay_are_no_spikes(trend: float) -> None:
    rows = [row(step, loss=5 * trend**step, grad_norm=trend**step) for step in range(1, 400)]
    rows[3] = row(4, loss=1000.0, grad_norm=1000.0)
    assert marked(Spikes(10.0, rank=0), *rows) == []
    assert marked(Spikes(10.0, rank=0), *(row(step, loss=0.0, grad_norm=0.0) for step in range(100))) == []


def test_a_new_level_is_usual_after_a_while() -> None:
    before = [row(step) for step in range(WINDOW)]
    after = [row(WINDOW + step, loss=3.0) for step in range(WINDOW)]
    steps = marked(Spikes(10.0, rank=0), *before, *after)
    assert steps == list(range(WINDOW, WINDOW + len(steps)))
    assert len(steps) <= WINDOW / 2 + 1


def test_a_factor_of_zero_switches_it_off() -> None:
    spikes = Spikes(0.0, rank=0)
    assert marked(spikes, *(row(step) for step in range(100)), row(100, loss=1e9)) == []
    assert spikes.state() == []


def test_a_resumed_run_marks_the_same_steps_and_its_state_is_that_of_a_whole_one(tmp_path: Path) -> None:
    def watched(trainer_steps: int, root: str) -> tuple[list[list[float]], list[dict[str, Any]]]:
        more = ("trainer.spike_factor=0.5", "trainer.run_validation=false", "checkpoint.save_iter=1000")
        trainer, rows = ready(tmp_path / root, *more, f"trainer.max_iter={trainer_steps}")
        trainer.train()
        return trainer.spikes.state(), rows

    whole, rows = watched(MIN_STEPS + 6, "whole")
    watched(MIN_STEPS - 2, "cut")
    resumed, more = watched(MIN_STEPS + 6, "cut")
    assert resumed == whole
    assert [one.get("spike") for one in more] == [one.get("spike") for one in rows[-8:]]
    assert any("spike" in one for one in more)
    assert all("spike" not in one for one in rows[:MIN_STEPS])


def test_what_is_no_state_is_known() -> None:
    assert all(map(is_spikes_state, [[], [[1.0, 2.0]]]))
    assert not any(map(is_spikes_state, [None, {}, [1.0], [[1.0]], [[1.0, "a"]], [[1, 2]], [[1.0, 2.0, 3.0]]]))
