"""What trains, and at which rate (spec/trainer.md 7.1)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from cosmos_core.config.run import OptimizerConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["parameter_groups", "select_trainable"]


def select_trainable(model: nn.Module, keys: Iterable[str]) -> None:
    """Freeze every parameter whose name contains none of `keys`; no keys, nothing is frozen.

    Raises UserError when a key matches nothing: a misspelt key would silently train less.
    """
    keys = tuple(keys)
    names = [name for name, _ in model.named_parameters()]
    parts = {part for name in names for part in name.split(".")}
    problems = [
        Problem(
            message=f"'{key}' is part of no parameter's name",
            key="optimizer.keys_to_select",
            hint=did_you_mean(key, parts) or "names look like " + ", ".join(names[:2]),
        )
        for key in keys
        if not any(key in name for name in names)
    ]
    if problems:
        raise UserError("the choice of what trains does not fit the model; nothing was started", problems)
    for name, parameter in model.named_parameters():
        if keys and not any(key in name for key in keys):
            parameter.requires_grad_(False)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """AdamW groups by learning rate, ascending; the longest matching key of `lr_multipliers` decides."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        matches = [key for key in config.lr_multipliers if key in name]
        factor = config.lr_multipliers[max(matches, key=len)] if matches else 1.0
        groups.setdefault(config.lr * factor, []).append(parameter)
    if not groups:
        raise UserError("nothing trains: every parameter is frozen")
    return [{"params": parameters, "lr": rate} for rate, parameters in sorted(groups.items())]
