"""Qwen3-VL for training: one vision call a step, packed conversations, and a loss that never holds all logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from cosmos_core.attention import PackedSequences
from cosmos_core.distributed import to_device
from cosmos_vlm.attention import COSMOS
from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.loss import ChunkLoss, chunk_loss, summed_cross_entropy
from cosmos_vlm.vision import tower_inputs, tower_patches

__all__ = ["ReasonerNetwork"]

DUMMY_GRID = (1, 2, 2)
"""Smallest image. A pack without media runs the tower on it: FSDP forward is a collective, so every rank takes part."""


class ReasonerNetwork(nn.Module):
    """transformers' Qwen3-VL under its own tensor names (``model.``, ``lm_head.``).

    is_single_process: weights are not sharded, so a frozen tower need not run for packs without media.
    """

    def __init__(self, config: Any, loss_chunk_size: int) -> None:
        super().__init__()
        self.config = config
        self.loss_chunk_size = loss_chunk_size
        self.chunk_loss: ChunkLoss = chunk_loss
        self.is_single_process = False
        self.model = Qwen3VLModel(config)
        self.tied = bool(config.tie_word_embeddings)
        if not self.tied:
            text = config.text_config
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        embedding: Any = self.model.visual.patch_embed
        embedding.forward = partial(_embed_patches, embedding)
        language: Any = self.model.language_model
        language._deepstack_process = _add_at_visual_tokens

    @property
    def blocks(self) -> list[nn.Module]:
        """Units of sharding, activation checkpointing and compilation."""
        return [*self.model.visual.blocks, *self.model.language_model.layers]

    def forward(
        self, batch: ChatBatch, logits_at: torch.Tensor | None = None, *, by_sample: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy summed over the learned tokens, float32 scalar.

        With `logits_at`, the logits there instead. With `by_sample` also, float64 [2, B] without gradient, the sum of
        each conversation and its number of learned tokens.
        """
        hidden = self.hidden(batch)
        if logits_at is not None:
            return self.logits(hidden[logits_at])
        hidden, targets = (values.index_select(0, batch.target_indices) for values in (hidden, batch.targets))
        token_losses = torch.empty(len(targets), device=hidden.device) if by_sample else None
        loss = summed_cross_entropy(
            hidden, self._head(hidden.dtype), targets, self.loss_chunk_size, self.chunk_loss, token_losses
        )
        return loss if token_losses is None else (loss, _by_sample(token_losses, batch))

    def hidden(self, batch: ChatBatch) -> torch.Tensor:
        """Final hidden states [N, hidden]."""
        language: Any = self.model.language_model
        embeds = language.embed_tokens(batch.ids)
        features, deep = self._run_tower(batch, embeds.dtype) if self._needs_tower(batch) else (embeds[:0], [])
        if len(batch.grids):
            embeds = embeds.index_copy(0, batch.visual_token_indices, features.to(embeds.dtype))
        else:
            embeds = embeds + 0 * (features.sum() + sum(part.sum() for part in deep)).to(embeds.dtype)
        output = language(
            inputs_embeds=embeds[None],
            position_ids=self._positions(batch)[:, None],
            attention_mask=None,
            use_cache=False,
            **self._sequences(batch.lengths, batch.ids.device),
            visual_pos_masks=batch.visual_token_indices if len(batch.grids) else None,
            deepstack_visual_embeds=deep if len(batch.grids) else None,
        )
        return output.last_hidden_state[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, hidden] -> [n, vocabulary]."""
        return linear(hidden, self._head(hidden.dtype))

    def _head(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self.model.language_model.embed_tokens.weight if self.tied else self.lm_head.weight
        return weight.to(dtype)

    def _needs_tower(self, batch: ChatBatch) -> bool:
        """Without media the tower still runs where other ranks need it, and for zero gradients if it trains."""
        trains = any(parameter.requires_grad for parameter in self.model.visual.parameters())
        return bool(len(batch.grids)) or trains or not self.is_single_process

    def _run_tower(self, batch: ChatBatch, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        patches, grids, seqlens = tower_patches(batch.patches, batch.pairs, dtype), batch.grids, batch.vision_seqlens
        if not len(grids):
            t, h, w = DUMMY_GRID
            patches, grids, seqlens = patches.new_zeros(t * h * w, 1536), grids.new_tensor([DUMMY_GRID]), (h * w,) * t
        output = self.model.visual(
            patches,
            grid_thw=grids,
            **tower_inputs(grids, self.model.visual, patches.device),
            **self._sequences(seqlens, patches.device),
        )
        return output.pooler_output, list(output.deepstack_features)

    @property
    def _packed(self) -> bool:
        """Whether attention takes sequence lengths instead of a mask."""
        return bool(self.model.config._attn_implementation == COSMOS)

    def _positions(self, batch: ChatBatch) -> torch.Tensor:
        """Time, row and column; for transformers' masks also the position in the sequence, first."""
        return batch.positions if self._packed else torch.cat([batch.position_in_sequence[None], batch.positions])

    def _sequences(self, lengths: tuple[int, ...], device: torch.device) -> dict[str, Any]:
        """The layers' argument that keeps attention inside each sequence."""
        if not self._packed:
            return {}
        return {"sequences": PackedSequences(lengths, device)}


def _by_sample(token_losses: torch.Tensor, batch: ChatBatch) -> torch.Tensor:
    """[2, B] of losses [L]: sum and count of each conversation."""
    ends = to_device(torch.tensor(batch.lengths).cumsum(0), token_losses.device)
    samples = torch.bucketize(batch.target_indices, ends, right=True)
    values = torch.stack([token_losses.double(), torch.ones_like(token_losses, dtype=torch.float64)])
    return values.new_zeros(2, len(batch.lengths)).index_add_(1, samples, values)


def _embed_patches(embedding: Any, patches: torch.Tensor) -> torch.Tensor:
    """The tower's patch convolution as a linear layer: the same weights and outputs, many times faster."""
    weight = embedding.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1), embedding.proj.bias)


def _add_at_visual_tokens(hidden: torch.Tensor, indices: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Add deeper features of the tower to hidden states [1, N, hidden] at indices int64 [V].

    Indices instead of transformers' mask, whose length the host would have to wait for.
    """
    return hidden.index_add(1, indices, features[None].to(hidden.dtype))
