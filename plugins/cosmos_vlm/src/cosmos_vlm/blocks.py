"""How the layers of both towers run in training: packed attention between two regions that compile and checkpoint.

Modules, parameters and their names stay transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from cosmos_core.attention import AttentionRegions, PackedSequences, packed_attention
from cosmos_core.config import ModelConfig
from cosmos_core.distributed import apply_activation_checkpointing, compile_blocks, config_of_layer
from cosmos_vlm.network import ReasonerNetwork

__all__ = ["LANGUAGE_REGIONS", "TOWER_REGIONS", "parallelize_blocks"]

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, [N, dim] of the tower, [1, N, dim] of the language model."""


def parallelize_blocks(model: ReasonerNetwork, config: ModelConfig, *, packed: bool) -> None:
    """Checkpoint and compile every layer, in place; packed: with attention that knows the dialogs' lengths."""
    if not packed:
        apply_activation_checkpointing(model.blocks, config.activation_checkpointing)
        compile_blocks(model.blocks, config.compile)
        return
    tower, language = model.model.visual.blocks, model.model.language_model.layers
    _parallelize(tower, config, *TOWER_REGIONS, causal=False)
    _parallelize(language, config, *LANGUAGE_REGIONS, causal=True)


def _parallelize(
    blocks: Iterable[nn.Module],
    config: ModelConfig,
    pre_attention: Callable[..., Any],
    post_attention: Callable[..., Any],
    *,
    causal: bool,
) -> None:
    blocks = list(blocks)
    for index, block in enumerate(blocks):
        own = config_of_layer(config, index, len(blocks))
        regions = AttentionRegions(block, pre_attention, post_attention).parallelize(own)
        block.forward = partial(_forward, regions, causal)


def _forward(
    regions: AttentionRegions,
    causal: bool,
    hidden: torch.Tensor,
    *,
    position_embeddings: Rotation,
    sequences: PackedSequences,
    **unused: Any,
) -> torch.Tensor:
    """Stands in for a layer's forward."""
    attend = partial(packed_attention, sequences=sequences, causal=causal)
    hidden, _ = regions(attend, hidden, *position_embeddings)
    return hidden


def _text_pre_attention(
    layer: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    q, k, v = (
        project(normed).unflatten(-1, (-1, attention.head_dim))
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    rotation = cos.unsqueeze(-2), sin.unsqueeze(-2)
    q, k = _rotated(attention.q_norm(q), *rotation), _rotated(attention.k_norm(k), *rotation)
    return q[0], k[0], v[0]


def _text_post_attention(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + layer.self_attn.o_proj(mixed.flatten(-2)[None])
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _tower_pre_attention(
    block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(hidden)).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
    rotation = cos.unsqueeze(-2).float(), sin.unsqueeze(-2).float()
    q, k = (_rotated(x.float(), *rotation).to(x.dtype) for x in (q, k))
    return q, k, v


def _tower_post_attention(block: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + block.attn.proj(mixed.flatten(-2))
    return hidden + block.mlp(block.norm2(hidden))


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Halves swapped rather than cut and joined: a join makes compiled kernels choose at every element."""
    halves = x.unflatten(-1, (2, -1))
    signs = 2 * torch.arange(2, device=x.device, dtype=x.dtype)[:, None] - 1
    return x * cos + (halves.flip(-2) * (sin.unflatten(-1, (2, -1)) * signs)).flatten(-2)


LANGUAGE_REGIONS = (_text_pre_attention, _text_post_attention)
TOWER_REGIONS = (_tower_pre_attention, _tower_post_attention)
"""Of a layer of the language model and of the vision tower, before and after attention."""
