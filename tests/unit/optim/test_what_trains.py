"""Selection of parameters, learning-rate groups, gradient norm and clipping."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cosmos_core.builtin.callbacks.grad_clip import GradClipCallback
from cosmos_core.builtin.config import GradClip
from cosmos_core.config import OptimizerConfig
from cosmos_core.errors import UserError
from cosmos_core.optim.adamw import build_adamw
from cosmos_core.optim.norm import gradient_norm
from cosmos_core.optim.select import parameter_groups, select_trainable


def network() -> nn.Module:
    return nn.ModuleDict({"text": nn.Linear(2, 2), "text_moe_gen": nn.Linear(2, 2), "vae2llm": nn.Linear(2, 2)})


def test_only_selected_names_train() -> None:
    model = network()
    select_trainable(model, ["moe_gen", "vae2llm"])
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert training == {"text_moe_gen.weight", "text_moe_gen.bias", "vae2llm.weight", "vae2llm.bias"}


def test_no_keys_train_everything() -> None:
    model = network()
    select_trainable(model, [])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_key_that_matches_nothing_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError) as refused:
        select_trainable(network(), ["moe_gen", "vae2lm"])
    (problem,) = refused.value.problems
    assert "vae2lm" in problem.message
    assert "vae2llm" in problem.hint


@pytest.mark.parametrize(("key", "near"), [("txt", "text"), ("vae2llm.wieght", "vae2llm.weight"), ("zzz", "look like")])
def test_a_multiplier_that_matches_nothing_is_refused_with_the_nearest_name(key: str, near: str) -> None:
    with pytest.raises(UserError) as refused:
        build_adamw(network(), OptimizerConfig(lr_multipliers={"text": 2.0, key: 0.0}))
    (problem,) = refused.value.problems
    assert (problem.key, problem.message) == (
        "optimizer.lr_multipliers", f"'{key}' is part of no parameter's name",
    )  # fmt: skip
    assert near in problem.hint


def test_the_longest_multiplier_decides() -> None:
    config = OptimizerConfig(lr=1e-3, lr_multipliers={"text": 2.0, "text_moe_gen": 10.0})
    groups = parameter_groups(network(), config)
    assert [(group.rate, len(group.parameters)) for group in groups] == [
        (pytest.approx(1e-3), 2),
        (pytest.approx(2e-3), 2),
        (pytest.approx(1e-2), 2),
    ]
    config = OptimizerConfig(lr=1e-3, lr_multipliers={"xt": 2.0, "text": 10.0})
    assert [(group.multiplier, len(group.parameters)) for group in parameter_groups(network(), config)] == [
        (None, 2),
        ("text", 4),
    ]


def test_frozen_parameters_are_not_in_the_optimizer() -> None:
    model = network()
    select_trainable(model, ["vae2llm"])
    optimizer = build_adamw(model, OptimizerConfig(betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1))
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 2
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.95), 1e-6, 0.1)


def clipped(model: nn.Module, **options: Any) -> float:
    callback = GradClipCallback(GradClip(**options), context=None)  # type: ignore[arg-type]
    state = SimpleNamespace(model=model, grad_norm=gradient_norm(model))
    callback.before_optimizer_step(state)  # type: ignore[arg-type]
    return float(state.grad_norm)


def test_gradients_above_the_limit_are_scaled_to_it() -> None:
    model = nn.Linear(3, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, 0.0, 4.0]])
    assert clipped(model, clip_norm=1.0) == pytest.approx(5.0)
    assert float(model.weight.grad.norm()) == pytest.approx(1.0, rel=1e-5)


def test_gradients_below_the_limit_stay() -> None:
    model = nn.Linear(3, 1, bias=False)
    model.weight.grad = torch.tensor([[0.3, 0.0, 0.4]])
    clipped(model, clip_norm=1.0)
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.3, 0.0, 0.4]]))


def test_force_finite_zeroes_what_is_not_a_number_and_leaves_the_norm_as_it_was_measured() -> None:
    model = nn.Linear(4, 1, bias=False)
    model.weight.grad = torch.tensor([[float("nan"), float("inf"), float("-inf"), 2.0]])
    assert math.isnan(clipped(model, clip_norm=1.0, force_finite=True))
    torch.testing.assert_close(model.weight.grad, torch.tensor([[0.0, 0.0, 0.0, 2.0]]), atol=0, rtol=0)
