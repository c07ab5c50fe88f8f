"""Which parameters train, and at which rate (docs/training.md, What trains)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from attrs import frozen
from torch import nn

from cosmos_core.config.run import OptimizerConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import nearest_part

__all__ = ["ParameterGroup", "learning_rates", "parameter_groups", "rate_names", "select_trainable"]


def select_trainable(model: nn.Module, keys: Iterable[str]) -> None:
    """Freeze every parameter whose name contains none of `keys`; without keys nothing is frozen.

    Raises UserError when a key matches nothing; a misspelt key would silently freeze parameters.
    """
    keys = tuple(keys)
    _check_all_matched(model, keys, "optimizer.keys_to_select")
    for name, parameter in model.named_parameters():
        if keys and not any(key in name for key in keys):
            parameter.requires_grad_(False)


def _check_all_matched(model: nn.Module, keys: Iterable[str], address: str) -> None:
    names = [name for name, _ in model.named_parameters()]
    problems = [
        Problem(
            message=f"'{key}' is part of no parameter's name",
            key=address,
            hint=nearest_part(key, names) or "names look like " + ", ".join(names[:2]),
        )
        for key in keys
        if not any(key in name for name in names)
    ]
    if problems:
        raise UserError(f"{address} does not match the model; nothing was started", problems)


@frozen
class ParameterGroup:
    """Parameters with one base rate. multiplier: their key in `lr_multipliers`, None for the others."""

    multiplier: str | None
    parameters: tuple[nn.Parameter, ...]
    rate: float


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[ParameterGroup]:
    """Trained parameters by the longest matching key of `lr_multipliers`; unmatched ones first.

    Raises UserError when a key matches no parameter, or nothing trains.
    """
    _check_all_matched(model, config.lr_multipliers, "optimizer.lr_multipliers")
    groups: dict[str | None, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matches = [key for key in config.lr_multipliers if key in name]
            groups.setdefault(max(matches, key=len, default=None), []).append(parameter)
    if not groups:
        message = "leaves nothing to train beside what the section [model] freezes"
        hint = "thaw a part there, or name one that is not frozen"
        problem = Problem(message=message, key="optimizer.keys_to_select", hint=hint)
        raise UserError("nothing trains: every parameter is frozen", [problem])
    factors: list[tuple[str | None, float]] = [(None, 1.0), *config.lr_multipliers.items()]
    return [ParameterGroup(key, tuple(groups[key]), config.lr * factor) for key, factor in factors if key in groups]


def rate_names(model: nn.Module, config: OptimizerConfig) -> tuple[str, ...]:
    """Name of each group's rate in the log: ``lr``, ``lr/<multiplier>``."""
    keys = [group.multiplier for group in parameter_groups(model, config)]
    return tuple("lr" if key is None else f"lr/{key}" for key in keys)


def learning_rates(optimizer: torch.optim.Optimizer, names: Iterable[str]) -> dict[str, float]:
    """The current rate of every group. names: of the groups, in order."""
    return {name: group["lr"] for name, group in zip(names, optimizer.param_groups, strict=True)}
