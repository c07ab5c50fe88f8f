"""The components of a checkpoint as state dicts, and how they are loaded back into the run."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cosmos_core.optim.ema import Ema

__all__ = [
    "AVERAGED",
    "LIVE",
    "model_state",
    "optimizer_state",
    "optimizer_templates",
    "random_state",
    "restore_optimizer",
    "restore_random_state",
]

LIVE, AVERAGED = "net.", "net_ema."
"""Prefixes of the network's tensors and of their moving averages."""
_MOMENTS = ("exp_avg", "exp_avg_sq")


def model_state(model: nn.Module, ema: Ema | None, left_out: Collection[str] = ()) -> dict[str, torch.Tensor]:
    """``net.<name>`` for parameters and persistent buffers, ``net_ema.<name>`` for the averages; all by reference.

    left_out: names of what a checkpoint leaves to its base.
    """
    state = {f"{LIVE}{name}": value for name, value in model.state_dict().items() if name not in left_out}
    if ema is not None:
        state.update({f"{AVERAGED}{name}": value for name, value in ema.shadows.items()})
    return state


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """``state.net.<name>.exp_avg`` and so on, ``param_groups.net.<name>.lr`` and so on; all by reference.

    Before the first update there are no moments. torch's function of this kind takes a step to make some, which counts.
    """
    flat: dict[str, Any] = {}
    for name, parameter, group in _optimized(model, optimizer):
        flat |= {f"state.net.{name}.{part}": value for part, value in optimizer.state.get(parameter, {}).items()}
        flat |= {f"param_groups.net.{name}.{option}": value for option, value in group.items() if option != "params"}
    return flat


def optimizer_templates(
    model: nn.Module, optimizer: torch.optim.Optimizer, stored: Collection[str]
) -> dict[str, torch.Tensor]:
    """Empty tensors for the moments and step counts among `stored`, named and sharded as in `optimizer_state`."""
    templates: dict[str, torch.Tensor] = {}
    for name, parameter, group in _optimized(model, optimizer):
        for part in _MOMENTS:
            templates[f"state.net.{name}.{part}"] = torch.zeros_like(parameter)
        device = parameter.device if group["fused"] else torch.device("cpu")
        templates[f"state.net.{name}.step"] = torch.zeros((), dtype=torch.float32, device=device)
    return {name: value for name, value in templates.items() if name in stored}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, torch.Tensor]) -> None:
    """Set the optimizer's state from what was loaded into `optimizer_templates`; parameters without are skipped."""
    for name, parameter, _ in _optimized(model, optimizer):
        values = {part: state.get(f"state.net.{name}.{part}") for part in (*_MOMENTS, "step")}
        if all(value is not None for value in values.values()):
            optimizer.state[parameter] = dict(values)


def _optimized(
    model: nn.Module, optimizer: torch.optim.Optimizer
) -> Iterator[tuple[str, nn.Parameter, dict[str, Any]]]:
    """Name, parameter and group of everything in the optimizer."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[parameter], parameter, group


def random_state() -> dict[str, torch.Tensor]:
    """This process's global random state: torch, torch_cuda, numpy, random. Training draws from `CounterRng`."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    assert kind == "MT19937"
    version, words, python_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy_keys": torch.tensor(np.asarray(keys).astype(np.int64)),
        "numpy_rest": torch.tensor([float(position), float(has_gauss), float(gauss)], dtype=torch.float64),
        "random_words": torch.tensor([version, *words], dtype=torch.int64),
        "random_gauss": torch.tensor([np.nan if python_gauss is None else python_gauss], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["torch_cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Set the random state that `random_state` returned."""
    torch.set_rng_state(state["torch"])
    position, has_gauss, gauss = state["numpy_rest"].tolist()
    keys = state["numpy_keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    version, *words = state["random_words"].tolist()
    python_gauss = state["random_gauss"].item()
    random.setstate((version, tuple(words), None if np.isnan(python_gauss) else python_gauss))
    if "torch_cuda" in state:
        torch.cuda.set_rng_state(state["torch_cuda"])
