"""How the network's layers are compiled and recomputed, piece by piece.

Attention stays outside of compiled graphs, so that packs of other lengths compile nothing anew, and outside of what
selective recomputation repeats. The understanding tower is never recomputed while it is frozen: under no_grad nothing
is kept that a backward pass would need.
"""

from __future__ import annotations

from torch import nn

from cosmos_core.config import ModelConfig
from cosmos_core.distributed import compiled, kept_operators, recomputed

__all__ = ["prepare_layers"]

STEPS = ("text_step", "latent_step")
PIECES = ("text_before", "text_after", "latents_before", "latents_after")


def prepare_layers(layers: nn.ModuleList, config: ModelConfig) -> None:
    """Compile and wrap every layer in place; parameter names stay as they are."""
    kept = config.activation_checkpointing
    wrapped = {"none": (), "full": STEPS, "selective": PIECES}[kept.mode]
    for layer in layers:
        for name in PIECES:
            setattr(layer, name, compiled(getattr(layer, name), config.compile))
        for name in wrapped:
            setattr(layer, name, recomputed(getattr(layer, name), kept, save=kept_operators(kept)))
