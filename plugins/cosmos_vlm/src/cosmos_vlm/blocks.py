"""How the layers of both towers run in training: packed attention between two regions that compile and checkpoint.

Modules, parameters and their names stay transformers' own.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from cosmos_core.attention import AttentionRegions, PackedSequences, RegionFunctions, packed_attention, rotate
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
        regions = AttentionRegions(block, TOWER_REGIONS if index < depth else LANGUAGE_REGIONS)
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
    return _text_down(layer, *_text_inner(layer, hidden, mixed))


def _text_inner(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = hidden + layer.self_attn.o_proj(mixed.flatten(-2)[None])
    normed, mlp = layer.post_attention_layernorm(hidden), layer.mlp
    return hidden, mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)


def _text_down(layer: Any, hidden: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = hidden + layer.mlp.down_proj(inner)
    return result


def _tower_pre_attention(
    block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(hidden)).unflatten(-1, (3, -1, cos.shape[-1])).unbind(1)
    rotation = cos.unsqueeze(-2).float(), sin.unsqueeze(-2).float()
    q, k = (rotate(x.float(), *rotation).to(x.dtype) for x in (q, k))
    return q, k, v


def _tower_post_attention(block: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    return _tower_down(block, *_tower_inner(block, hidden, mixed))


def _tower_inner(block: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hidden = hidden + block.attn.proj(mixed.flatten(-2))
    return hidden, block.mlp.act_fn(block.mlp.linear_fc1(block.norm2(hidden)))


def _tower_down(block: Any, hidden: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = hidden + block.mlp.linear_fc2(inner)
    return result


LANGUAGE_REGIONS = RegionFunctions(_text_pre_attention, _text_post_attention, _text_inner, _text_down)
TOWER_REGIONS = RegionFunctions(_tower_pre_attention, _tower_post_attention, _tower_inner, _tower_down)
"""Of a layer of the language model and of the vision tower."""
