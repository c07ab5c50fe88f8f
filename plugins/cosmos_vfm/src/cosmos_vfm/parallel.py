"""How the network's layers are compiled and recomputed, piece by piece.

Attention stays outside of compiled graphs, so that packs of other lengths compile nothing anew, and outside of what
selective recomputation repeats. The understanding tower is never recomputed while it is frozen: under no_grad nothing
is kept that a backward pass would need.
"""

from __future__ import annotations

import re

from torch import nn

from cosmos_core.config import ActivationCheckpointing, ModelConfig
from cosmos_core.distributed import compiled, recomputed

__all__ = ["prepare_layers"]

STEPS = ("text_step", "latent_step")
PIECES = ("text_before", "text_after", "latents_before", "latents_after")
ATTENTION = ("fmha", "flash_attention", "cudnn_attention", "scaled_dot_product_attention", "attention")


def prepare_layers(layers: nn.ModuleList, config: ModelConfig) -> None:
    """Compile and wrap every layer in place; parameter names stay as they are."""
    kept = config.activation_checkpointing
    wrapped = {"none": (), "full": STEPS, "selective": PIECES}[kept.mode]
    for layer in layers:
        for name in PIECES:
            setattr(layer, name, compiled(getattr(layer, name), config.compile))
        for name in wrapped:
            setattr(layer, name, recomputed(getattr(layer, name), kept, save=_operators(kept)))


def _operators(config: ActivationCheckpointing) -> tuple[str, ...]:
    """Patterns of what 'selective' keeps beside attention, which it always keeps."""
    if config.mode != "selective":
        return ()
    return tuple(p for p in config.save_ops_regex if not any(re.search(p, name) for name in ATTENTION))
