"""Model FLOPs of the generator, from sizes and lengths alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cosmos_core.train import Backward
from cosmos_vfm.network.model import is_text_tower
from cosmos_vfm.sizes import NetworkConfig

__all__ = ["backward_of_towers", "training_flops"]


def training_flops(
    network: NetworkConfig, text: Sequence[int], latents: Sequence[int], backward: tuple[Backward, Backward]
) -> float:
    """FLOPs of one packed micro-batch, forward and backward.

    text, latents: tokens of each sample in the two towers. backward: of the understanding and the generation tower.

    Recomputation and the video tokenizer do not count, causal attention counts half. The projections at both ends of
    the generation tower (a thousandth) are left out; the last layer's text counts whole, although nothing reads it.
    """
    text_backward, latent_backward = backward
    q = network.heads * network.head_dim
    matrices = 3 if network.gated_mlp else 2
    block = network.hidden * (2 * q + 2 * network.kv_heads * network.head_dim + matrices * network.mlp)
    text_linear, text_attention = 2 * block * sum(text), 2 * q * sum(length**2 for length in text)
    latent_linear = 2 * block * sum(latents)
    latent_attention = 4 * q * sum(n * (n + prompt) for n, prompt in zip(latents, text, strict=True))
    return network.layers * (
        text_backward.linear * text_linear
        + text_backward.attention * text_attention
        + latent_backward.linear * latent_linear
        + latent_backward.attention * latent_attention
    )


def backward_of_towers(model: nn.Module) -> tuple[Backward, Backward]:
    """Of the understanding and the generation tower, by what trains."""
    named = list(model.named_parameters())
    text = [(name, parameter) for name, parameter in named if is_text_tower(name)]
    latents = [(name, parameter) for name, parameter in named if not is_text_tower(name)]
    return Backward.of(text), Backward.of(latents)
