"""What the console tells where there is no terminal: whole lines, with every metric of a validation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cosmos_core.builtin.config import Console
from cosmos_core.builtin.trackers.console import ConsoleTracker
from cosmos_core.plan.make import make_plan
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load

FIGURES = {"lr": 1e-3, "lr/head": 2e-3, "grad_norm": 0.5, "tokens": 1000, "seconds": 2.0, "data_wait": 0.5}


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    config = load("hello", ["trainer.logging_iter=2", "trainer.max_iter=5"], plugins=PluginManager.discover())
    return make_plan(config, output_root=tmp_path, world=1, distributions={}, fresh=False)


def step(number: int, **more: Any) -> dict[str, Any]:
    return {"step": number, "loss": 1.0 / number, **FIGURES, **more}


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines without their times."""
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    return [line[9:] for line in lines]


def test_steps_are_told_at_the_cadence_and_validations_with_all_metrics(
    plan: RunPlan, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker = ConsoleTracker(Console())
    tracker.start(plan, 0)
    assert told(capsys) == [f"{name}: {text}" for name, text in plan.summary().items()]
    for number in range(1, 6):
        tracker.log(step(number, **({"pack_filled": 0.9, "cache_hit_rate": 0.4} if number == 4 else {})))
    tracker.log({"step": 5, "accuracy": 0.4321, "val_loss": 0.25, "answers": 500})
    tracker.finish("done")
    figures, hits = "grad 0.500, 500 tokens/s, data wait 25%", "cache: 40% of clips were encoded before"
    assert told(capsys) == [
        f"step 2/5: loss 0.5000, eta 0:00:06, lr 1.00e-03, {figures}, lr/head 2.00e-03",
        f"step 4/5: loss 0.2500, eta 0:00:02, lr 1.00e-03, {figures}, packs 90% full, {hits}, lr/head 2.00e-03",
        f"step 5/5: loss 0.2000, eta 0:00:00, lr 1.00e-03, {figures}, {hits}, lr/head 2.00e-03",
        "step 5/5: validation loss 0.2500, accuracy 0.4321, answers 500",
        "done at step 5/5, loss 0.2000 after 0:00:00",
    ]


def test_a_run_that_ends_before_its_first_step_says_so(plan: RunPlan, capsys: pytest.CaptureFixture[str]) -> None:
    tracker = ConsoleTracker(Console())
    tracker.start(plan, 3)
    tracker.finish("failed")
    assert told(capsys)[-1] == "failed at step 3/5 after 0:00:00"
