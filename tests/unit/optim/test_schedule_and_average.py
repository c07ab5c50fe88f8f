"""Learning-rate schedules and the moving average, by worked values and against independent formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cosmos_core.config import Ema as EmaConfig
from cosmos_core.config import SchedulerConfig
from cosmos_core.optim.ema import Ema, beta, exponent
from cosmos_core.optim.schedule import build_scheduler
from cosmos_core.plan.schedule import factor

NANO = SchedulerConfig(cycle_lengths=(1000,), warm_up_steps=(50,))
VIDEOPHY = SchedulerConfig(cycle_lengths=(50,), warm_up_steps=(5,), f_start=(0.05,), f_max=(1.0,), f_min=(0.1,))
LINEAR = SchedulerConfig(type="LambdaLinear", cycle_lengths=(100,), warm_up_steps=(20,), f_max=(0.4,), f_min=(0.1,))
TWO = SchedulerConfig(
    cycle_lengths=(10, 20),
    warm_up_steps=(2, 4),
    f_start=(0.0, 0.1),
    f_max=(1.0, 0.5),
    f_min=(0.2, 0.0),
)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (25, 0.5), (50, 1.0), (100, 0.99318), (250, 0.89457), (499, 0.54294), (500, 0.5413)],
)
def test_nano_recipe_follows_the_worked_values(step: int, expected: float) -> None:
    assert factor(NANO, step) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(("step", "rate"), [(0, 5e-8), (5, 1e-6), (50, 1e-7)])
def test_videophy_recipe_follows_the_worked_values(step: int, rate: float) -> None:
    assert 1e-6 * factor(VIDEOPHY, step) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (10, 0.2), (20, 0.4), (60, 0.25), (100, 0.1)])
def test_linear_falls_in_a_straight_line(step: int, expected: float) -> None:
    assert factor(LINEAR, step) == pytest.approx(expected)


def test_a_boundary_step_belongs_to_the_cycle_that_ends() -> None:
    assert factor(TWO, 10) == pytest.approx(0.2)
    assert factor(TWO, 11) == pytest.approx(0.1 + 0.4 / 4)
    assert factor(TWO, 14) == pytest.approx(0.5)
    assert factor(TWO, 30) == pytest.approx(0.0)


def test_past_the_last_cycle_the_final_factor_stays() -> None:
    assert factor(VIDEOPHY, 51) == factor(VIDEOPHY, 5000) == factor(VIDEOPHY, 50)


@given(st.integers(0, 3000))
@settings(deadline=None)
def test_cosine_equals_the_written_formula(step: int) -> None:
    within = min(step, 1000)
    expected = within / 50 if within < 50 else 0.5 * (1 + math.cos(math.pi * (within - 50) / 950))
    assert factor(NANO, step) == pytest.approx(expected, abs=1e-12)


def test_the_first_update_uses_factor_zero_and_groups_keep_their_ratio() -> None:
    weights = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": [weights[0]], "lr": 1e-4}, {"params": [weights[1]], "lr": 5e-4}])
    scheduler = build_scheduler(optimizer, NANO)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    for _ in range(25):
        optimizer.step()
        scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-5, 2.5e-4])


@pytest.mark.parametrize(("rate", "expected"), [(0.1, 6.937203937609831), (0.05, 16.972), (0.2, 1.826)])
def test_average_exponent_is_the_root_of_the_profile(rate: float, expected: float) -> None:
    assert exponent(rate) == pytest.approx(expected, rel=1e-3)
    if rate == 0.1:
        assert exponent(rate) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (1, 0.00408), (2, 0.0400), (5, 0.2352), (10, 0.4693), (100, 0.9241), (1000, 0.9921)],
)
def test_average_keeps_the_worked_shares(step: int, expected: float) -> None:
    assert beta(step, exponent(0.1)) == pytest.approx(expected, abs=5e-5)


def test_average_follows_the_recurrence_and_skips_frozen_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].weight.requires_grad_(False)
    ema, power = Ema(model, EmaConfig(rate=0.1)), exponent(0.1)
    expected = model[0].weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            model[0].weight.add_(torch.randn(4, 3))
        ema.update(step, torch.tensor(True))
        keep = beta(step - 1, power)
        expected = keep * expected + (1 - keep) * model[0].weight.detach()
    assert "1.weight" not in ema.shadows
    torch.testing.assert_close(ema.shadows["0.weight"], expected)
    live = model[0].weight.detach().clone()
    with ema.swapped_in():
        torch.testing.assert_close(model[0].weight.detach(), expected)
    assert torch.equal(model[0].weight, live)
