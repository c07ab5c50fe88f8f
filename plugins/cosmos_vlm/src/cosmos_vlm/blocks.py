"""How the layers of both towers run in training: two pieces that compile and recompute, attention between them.

Attention stays outside of compiled graphs, so that packs of other lengths compile nothing anew, and outside of what
selective recomputation repeats. Modules, parameters and their names stay transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from attrs import frozen
from torch import nn

from cosmos_core.config import ModelConfig
from cosmos_core.distributed import compile_blocks, compiled, kept_operators, recomputed, wrap_blocks
from cosmos_vlm.attention import Stretches, packed_attention
from cosmos_vlm.network import ReasonerNetwork

__all__ = ["prepare_blocks"]

Rotation = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, [N, dim] of the tower, [1, N, dim] of the language model."""


@frozen(eq=False)
class _Pieces:
    """before: hidden states and rotation -> queries, keys, values. after: hidden states and attention's result ->
    the layer's output."""

    before: Callable[..., Any]
    after: Callable[..., Any]

    def run(
        self, hidden: torch.Tensor, *, position_embeddings: Rotation, stretches: Stretches, **unused: Any
    ) -> torch.Tensor:
        """Stands in for a layer's forward."""
        q, k, v = self.before(hidden, *position_embeddings)
        return self.after(hidden, packed_attention(q, k, v, stretches))


def prepare_blocks(model: ReasonerNetwork, config: ModelConfig, *, packed: bool) -> None:
    """Recompute and compile every layer, in place; packed: with attention that knows the dialogs' lengths."""
    if not packed:
        wrap_blocks(model.blocks, config.activation_checkpointing)
        compile_blocks(model.blocks, config.compile)
        return
    _prepare(model.model.visual.blocks, config, _tower_before, _tower_after)
    _prepare(model.model.language_model.layers, config, _text_before, _text_after)


def _prepare(
    blocks: Iterable[nn.Module],
    config: ModelConfig,
    before: Callable[..., Any],
    after: Callable[..., Any],
) -> None:
    kept = config.activation_checkpointing
    before, after = compiled(before, config.compile), compiled(after, config.compile)
    for block in blocks:
        parts: list[Callable[..., Any]] = [partial(piece, block) for piece in (before, after)]
        if kept.mode == "selective":
            parts = [recomputed(part, kept, save=kept_operators(kept)) for part in parts]
        run = _Pieces(before=parts[0], after=parts[1]).run
        block.forward = recomputed(run, kept, save=()) if kept.mode == "full" else run


def _text_before(layer: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    q, k, v = (
        project(normed).unflatten(-1, (-1, attention.head_dim))
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    rotation = cos.unsqueeze(-2), sin.unsqueeze(-2)
    q, k = _rotated(attention.q_norm(q), *rotation), _rotated(attention.k_norm(k), *rotation)
    return q[0], k[0], v[0]


def _text_after(layer: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + layer.self_attn.o_proj(mixed.flatten(-2)[None])
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def _tower_before(block: Any, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, ...]:
    attention = block.attn
    q, k, v = attention.qkv(block.norm1(hidden)).unflatten(-1, (3, attention.num_heads, -1)).unbind(1)
    rotation = cos.unsqueeze(-2).float(), sin.unsqueeze(-2).float()
    q, k = (_rotated(x.float(), *rotation).to(x.dtype) for x in (q, k))
    return q, k, v


def _tower_after(block: Any, hidden: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    hidden = hidden + block.attn.proj(mixed.flatten(-2))
    return hidden + block.mlp(block.norm2(hidden))


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Halves swapped rather than cut and joined: a join makes compiled kernels choose at every element."""
    halves = x.unflatten(-1, (2, -1))
    signs = 2 * torch.arange(2, device=x.device, dtype=x.dtype)[:, None] - 1
    return x * cos + (halves.flip(-2) * (sin.unflatten(-1, (2, -1)) * signs)).flatten(-2)
