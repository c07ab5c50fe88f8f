"""Fresh weights, the same under any sharding: every tensor is drawn whole from its own random stream.

See docs/models/generator.md, Fresh weights.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import nn

from cosmos_core.distributed import CounterRng, load_full_tensor
from cosmos_core.optim import is_lora

__all__ = ["initialise"]

EMBEDDINGS = ("embed_tokens",)
OUTPUTS = ("o_proj", "down_proj")


def initialise(model: nn.Module, rng: CounterRng, layers: int, names: Collection[str]) -> None:
    """Fill the weights in `names`, except adapters: truncated normal with std 1/sqrt(fan in).

    Output projections of residual blocks are divided by sqrt(2 layers).

    The generation tower starts as a copy of the understanding tower: both use the random stream of the same name.
    """
    for name, parameter in model.named_parameters():
        if is_lora(name) or name not in names:
            continue
        load_full_tensor(parameter, _drawn(name, tuple(parameter.shape), rng, layers))


def _drawn(name: str, shape: tuple[int, ...], rng: CounterRng, layers: int) -> torch.Tensor:
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    leaf = name.split(".")[-2].replace("_moe_gen", "")
    std = 1.0 if leaf in EMBEDDINGS else 1 / math.sqrt(shape[1])
    if leaf in OUTPUTS:
        std /= math.sqrt(2 * layers)
    generator = rng.generator(f"init.{name.replace('_moe_gen', '')}")
    return nn.init.trunc_normal_(torch.empty(shape), std=std, a=-3 * std, b=3 * std, generator=generator)
