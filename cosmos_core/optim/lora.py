"""Low-rank adapters on linear layers (Hu et al. 2021, arXiv:2106.09685; docs/training.md, Adapters)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import torch
from torch import nn
from torch.nn.functional import linear

from cosmos_core.config.model import AdaptedModelConfig
from cosmos_core.distributed.fsdp import load_full_tensor, to_local
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import did_you_mean

__all__ = ["LoraLinear", "adapters_changed", "initialise_lora", "inject_lora", "is_lora", "trains_only_lora"]


class LoraLinear(nn.Linear):
    """y = x W' + b + (alpha / rank) (x A') B'. The weight keeps its name; the adapter adds lora_A and lora_B."""

    lora_A: nn.Linear
    lora_B: nn.Linear
    scale: float

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., in] -> [..., out]."""
        # The adapter first: what the backward pass reads of the weight's product is known before it, so that a
        # recomputation which ends here leaves it out.
        return self.lora_B(self.lora_A(input)) * self.scale + linear(input, self.weight, self.bias)


def is_lora(name: str) -> bool:
    """Whether a parameter belongs to an adapter."""
    return ".lora_A." in name or ".lora_B." in name


def inject_lora(model: nn.Module, config: AdaptedModelConfig) -> None:
    """Add adapters to the linear layers that `config` targets, in place, if adapters are enabled.

    A target is the last part of a module's name, or a dotted suffix of it. Raises UserError if one matches no layer.
    """
    if not config.lora_enabled:
        return
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    matched = {target: [name for name in layers if _ends(name, target)] for target in config.lora_targets}
    _check_all_matched(matched, layers)
    for name in dict.fromkeys(name for names in matched.values() for name in names):
        _adapt(layers[name], config.lora_rank, config.lora_alpha)


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _check_all_matched(matched: dict[str, list[str]], layers: Iterable[str]) -> None:
    known = sorted({name.rpartition(".")[2] for name in layers})
    problems = [
        Problem(
            message=f"'{target}' is no linear layer of the model",
            key="model.lora_target_modules",
            hint=did_you_mean(target, known) or "layers are called " + ", ".join(known),
        )
        for target, names in matched.items()
        if not names
    ]
    if problems or not matched:
        raise UserError("the adapters do not fit the model; nothing was started", problems)


def _adapt(layer: nn.Linear, rank: int, alpha: int) -> None:
    device, dtype = layer.weight.device, layer.weight.dtype
    layer.__class__ = LoraLinear
    assert isinstance(layer, LoraLinear)
    layer.lora_A = nn.Linear(layer.in_features, rank, bias=False, device=device, dtype=dtype)
    layer.lora_B = nn.Linear(rank, layer.out_features, bias=False, device=device, dtype=dtype)
    layer.scale = alpha / rank


def initialise_lora(model: nn.Module, rng: CounterRng, names: Collection[str]) -> None:
    """Fill the adapters among `names`: A uniform within 1 / sqrt(in), B zero, so that training starts from the base."""
    for name, parameter in model.named_parameters():
        if not is_lora(name) or name not in names:
            continue
        full = torch.zeros(parameter.shape)
        if ".lora_A." in name:
            bound = 1 / math.sqrt(parameter.shape[1])
            full = torch.empty(parameter.shape).uniform_(-bound, bound, generator=rng.generator(f"init.{name}"))
        load_full_tensor(parameter, full)


def trains_only_lora(model: nn.Module) -> bool:
    """Whether adapters train and nothing else does; checkpoints then hold the adapters alone."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return bool(trained) and all(is_lora(name) for name in trained)


def adapters_changed(model: nn.Module) -> bool:
    """Whether this rank's shard of any B is not zero."""
    outputs = [parameter for name, parameter in model.named_parameters() if ".lora_B." in name]
    return any(bool(to_local(parameter.detach()).any()) for parameter in outputs)
