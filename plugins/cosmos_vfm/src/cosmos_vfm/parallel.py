"""How the network's layers are compiled and checkpointed, each stream's regions around attention on their own.

The understanding tower is never recomputed while it is frozen: under no_grad nothing is kept that a backward pass would
need.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from cosmos_core.config import ModelConfig

__all__ = ["parallelize_layers"]


def parallelize_layers(layers: nn.ModuleList, config: ModelConfig) -> None:
    """Compile and checkpoint every layer in place; parameter names stay as they are."""
    layer: Any
    for layer in layers:
        layer.text_regions.parallelize(config)
        layer.latent_regions.parallelize(config)
