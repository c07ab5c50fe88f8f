"""Compilation and activation checkpointing of the layers: the regions before and after attention, for text and latents.

A frozen understanding tower is never recomputed: it runs under no_grad, so no activations are saved.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from cosmos_core.config import ModelConfig
from cosmos_core.distributed import config_of_layer

__all__ = ["parallelize_layers"]


def parallelize_layers(layers: nn.ModuleList, config: ModelConfig) -> None:
    """Compile and checkpoint every layer in place; parameter names stay as they are."""
    layer: Any
    for index, layer in enumerate(layers):
        own = config_of_layer(config, index, len(layers))
        layer.text_regions.parallelize(own)
        layer.latent_regions.parallelize(own)
