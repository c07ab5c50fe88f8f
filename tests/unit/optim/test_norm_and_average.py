"""The gradient norm, clipping and the moving average in the cases that a good run never meets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cosmos_core.config import Ema as EmaConfig
from cosmos_core.config import OptimizerConfig, SchedulerConfig
from cosmos_core.errors import UserError
from cosmos_core.optim import build_adamw, build_scheduler
from cosmos_core.optim.ema import Ema, beta
from cosmos_core.optim.norm import all_finite, clip_to, gradient_norm, zero_non_finite
from cosmos_core.optim.select import learning_rates, parameter_groups, rate_names, select_trainable
from cosmos_core.plan.schedule import factor


def with_gradients(*values: list[float] | None) -> nn.ParameterList:
    model = nn.ParameterList([nn.Parameter(torch.ones(len(value or [0.0]))) for value in values])
    for parameter, value in zip(model, values, strict=True):
        parameter.grad = None if value is None else torch.tensor(value)
    return model


def gradients(model: nn.Module) -> list[list[float] | None]:
    return [None if one.grad is None else one.grad.tolist() for one in model.parameters()]


def test_the_norm_is_over_all_gradients_that_there_are() -> None:
    assert float(gradient_norm(with_gradients([1.0, 2.0], None, [2.0, 4.0]))) == pytest.approx(5.0)
    assert float(gradient_norm(with_gradients([0.0]))) == 0.0
    assert math.isinf(gradient_norm(with_gradients([1.0], [math.inf])))


@pytest.mark.parametrize(("limit", "scale"), [(10.0, 1.0), (5.0, 5 / 5.000001), (2.5, 2.5 / 5.000001)])
def test_clipping_multiplies_every_gradient_alike_and_never_enlarges(limit: float, scale: float) -> None:
    model = with_gradients([3.0], None, [4.0])
    clip_to(model, limit, gradient_norm(model))
    assert gradients(model) == [[pytest.approx(3 * scale, rel=1e-7)], None, [pytest.approx(4 * scale, rel=1e-7)]]


@pytest.mark.parametrize("norm", [math.inf, math.nan])
def test_a_norm_that_is_not_finite_clips_nothing(norm: float) -> None:
    model = with_gradients([3.0], [4.0])
    clip_to(model, 1.0, torch.tensor(norm))
    assert gradients(model) == [[3.0], [4.0]]


def test_clipping_nothing_is_no_error() -> None:
    clip_to(with_gradients(None), 1.0, torch.tensor(1.0))


def test_what_is_not_finite_becomes_zero_in_every_gradient() -> None:
    model = with_gradients([math.nan, 1.0], None, [math.inf, -math.inf, -2.0])
    zero_non_finite(model)
    assert gradients(model) == [[0.0, 1.0], None, [0.0, 0.0, -2.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_one_weight_that_is_not_finite_is_found_anywhere(value: float, place: int) -> None:
    model = nn.ParameterList([nn.Parameter(torch.ones(3)) for _ in range(2)])
    model.append(nn.Parameter(torch.zeros(0)))
    model.append(nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False))
    assert all_finite(model)
    model[place].data[1] = value
    assert not all_finite(model)


def linear(value: float) -> nn.Linear:
    model = nn.Linear(2, 1)
    for parameter in model.parameters():
        parameter.data.fill_(value)
    return model


def averages(ema: Ema) -> dict[str, set[float]]:
    return {name: set(shadow.flatten().tolist()) for name, shadow in ema.shadows.items()}


def test_a_restart_sets_what_was_not_loaded() -> None:
    model = linear(1.0)
    ema = Ema(model, EmaConfig())
    for shadow in ema.shadows.values():
        shadow.fill_(5.0)
    assert ema.restart({"weight", "unknown"}) == ["bias"]
    assert averages(ema) == {"weight": {5.0}, "bias": {1.0}}
    assert ema.restart() == ["weight", "bias"]
    assert averages(ema) == {"weight": {1.0}, "bias": {1.0}}


@pytest.mark.parametrize("shift", [0, 7])
def test_the_first_average_is_the_weights_unless_its_profile_is_shifted(shift: int) -> None:
    model = linear(1.0)
    ema = Ema(model, EmaConfig(iteration_shift=shift))
    linear_weights = dict(model.named_parameters())
    for step in (1, 2, 3):
        before = float(ema.shadows["bias"])
        linear_weights["bias"].data.fill_(step + 1.0)
        ema.update(step, torch.tensor(True))
        keep = beta(step - 1 + shift, ema.power)
        assert float(ema.shadows["bias"]) == pytest.approx(keep * before + (1 - keep) * (step + 1.0), rel=1e-6)
        assert (keep == 0.0) == (step + shift == 1)


def test_a_step_that_is_not_finite_leaves_the_average() -> None:
    model = linear(1.0)
    ema = Ema(model, EmaConfig())
    model.weight.data.fill_(2.0)
    ema.update(3, torch.tensor(False))
    assert averages(ema) == {"weight": {1.0}, "bias": {1.0}}


def test_the_average_is_float32_and_stands_in_only_inside() -> None:
    model = linear(1.0).bfloat16()
    ema = Ema(model, EmaConfig())
    assert {shadow.dtype for shadow in ema.shadows.values()} == {torch.float32}
    for shadow in ema.shadows.values():
        shadow.fill_(4.0)
    inside = []

    def fail() -> None:
        with ema.swapped_in():
            inside.extend(model.weight.flatten().tolist())
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert set(inside) == {4.0}
    assert set(model.weight.flatten().tolist()) == {1.0}
    ema.install()
    assert {one.item() for parameter in model.parameters() for one in parameter.flatten()} == {4.0}


def test_groups_and_their_names_come_in_the_order_of_the_multipliers() -> None:
    model = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in ("head", "body", "head_moe")})
    config = OptimizerConfig(lr=2.0, lr_multipliers={"head_moe": 3.0, "head": 0.5})
    assert rate_names(model, config) == ("lr", "lr/head_moe", "lr/head")
    optimizer = build_adamw(model, config)
    assert learning_rates(optimizer, rate_names(model, config)) == {"lr": 2.0, "lr/head_moe": 6.0, "lr/head": 1.0}
    select_trainable(model, ("head",))
    assert [(group.multiplier, group.rate) for group in parameter_groups(model, config)] == [
        ("head_moe", 6.0),
        ("head", 1.0),
    ]
    model.requires_grad_(False)
    with pytest.raises(UserError, match="nothing trains") as refused:
        parameter_groups(model, config)
    assert [problem.key for problem in refused.value.problems] == ["optimizer.keys_to_select"]


CYCLES = SchedulerConfig(
    cycle_lengths=(6, 8), warm_up_steps=(2, 0), f_start=(0.5, 0.1), f_max=(1.0, 0.5), f_min=(0.2, 0.0)
)


@pytest.mark.parametrize("step", range(16))
def test_a_schedule_built_at_a_step_goes_on_from_there(step: int) -> None:
    def rates(begun: int) -> list[float]:
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([{"params": [parameter], "lr": 2.0, "initial_lr": 2.0}], lr=2.0)
        scheduler = build_scheduler(optimizer, CYCLES, begun)
        found = []
        for _ in range(begun, 17):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return found

    assert rates(step) == rates(0)[step:]
    assert rates(0) == [pytest.approx(2.0 * factor(CYCLES, number)) for number in range(17)]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        *((0, 0.5), (1, 0.75), (2, 1.0), (4, 0.6), (6, 0.2), (7, 0.25 * (1 + math.cos(math.pi / 8)))),
        *((10, 0.25), (14, 0.0), (15, 0.0)),
    ],
)
def test_two_cycles_follow_their_own_shapes(step: int, expected: float) -> None:
    assert factor(CYCLES, step) == pytest.approx(expected, abs=1e-12)
    straight = SchedulerConfig(type="LambdaLinear", cycle_lengths=(4,), warm_up_steps=(4,), f_max=(0.8,), f_min=(0.0,))
    assert [factor(straight, number) for number in range(6)] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 0.8])
