"""How the layers of both towers run in training: packed attention between two regions that compile and checkpoint.

Modules, parameters and their names stay transformers' own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from cosmos_core.attention import AttentionRegions, PackedSequences, packed_attention, rotate
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
    # The tower's layers come first: recomputing them frees most memory for each FLOP.
    blocks, depth = model.blocks, len(model.model.visual.blocks)
    for index, block in enumerate(blocks):
        regions = AttentionRegions(block, *(TOWER_REGIONS if index < depth else LANGUAGE_REGIONS))
        regions.parallelize(config_of_layer(config, index, len(blocks)))
        block.forward = partial(_forward, regions, index >= depth)


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
        project(normed).unflatten(-1, (-1, cos.shape[-1]))
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    rotation = cos.unsqueeze(-2), sin.unsqueeze(-2)
    q, k = rotate(attention.q_norm(q), *rotation), rotate(attention.k_norm(k), *rotation)
    return q[0], k[0], v[0]


def _text_post_attention(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + layer.self_attn.o_proj(mixed.flatten(-2)[None])
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _tower_pre_attention(
    block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(hidden)).unflatten(-1, (3, -1, cos.shape[-1])).unbind(1)
    rotation = cos.unsqueeze(-2).float(), sin.unsqueeze(-2).float()
    q, k = (rotate(x.float(), *rotation).to(x.dtype) for x in (q, k))
    return q, k, v


def _tower_post_attention(block: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + block.attn.proj(mixed.flatten(-2))
    return hidden + block.mlp(block.norm2(hidden))


LANGUAGE_REGIONS = (_text_pre_attention, _text_post_attention)
TOWER_REGIONS = (_tower_pre_attention, _tower_post_attention)
"""Of a layer of the language model and of the vision tower, before and after attention."""
