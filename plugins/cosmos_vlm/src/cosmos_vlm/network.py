"""Qwen3-VL for training: one vision call a step, packed dialogs, and a loss that never holds all logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from cosmos_vlm.attention import COSMOS
from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.dialog import IGNORED

__all__ = ["ReasonerNetwork"]

DUMMY_GRID = (1, 2, 2)
"""Smallest picture; shown to the tower when a pack has none, because sharded weights need every rank's hand."""


class ReasonerNetwork(nn.Module):
    """transformers' Qwen3-VL under its own tensor names (``model.``, ``lm_head.``)."""

    def __init__(self, config: Any, chunk: int) -> None:
        super().__init__()
        self.config = config
        self.chunk = chunk
        self.model = Qwen3VLModel(config)
        self.tied = bool(config.tie_word_embeddings)
        if not self.tied:
            text = config.text_config
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        embedding: Any = self.model.visual.patch_embed
        embedding.forward = partial(_embed_patches, embedding)

    @property
    def blocks(self) -> list[nn.Module]:
        """Units of sharding, recomputation and compilation."""
        return [*self.model.visual.blocks, *self.model.language_model.layers]

    def forward(self, batch: ChatBatch, places: torch.Tensor | None = None) -> torch.Tensor:
        """Cross-entropy summed over the learned positions, float32 scalar; at `places`, the logits instead."""
        hidden = self.hidden(batch)
        if places is not None:
            return self.logits(hidden[places])
        learned = batch.targets != IGNORED
        return self._loss(hidden[learned], batch.targets[learned])

    def hidden(self, batch: ChatBatch) -> torch.Tensor:
        """Final hidden states [N, hidden]."""
        language: Any = self.model.language_model
        embeds = language.embed_tokens(batch.ids)
        features, deep = self._see(batch, embeds.dtype)
        seen = (batch.ids == self.config.image_token_id) | (batch.ids == self.config.video_token_id)
        if len(batch.grids):
            embeds = embeds.masked_scatter(seen[:, None], features.to(embeds.dtype))
        else:
            embeds = embeds + 0 * (features.sum() + sum(part.sum() for part in deep)).to(embeds.dtype)
        output = language(
            inputs_embeds=embeds[None],
            position_ids=torch.cat([batch.starts[None], batch.positions])[:, None],
            attention_mask=None,
            use_cache=False,
            **({"lengths": batch.lengths} if self.model.config._attn_implementation == COSMOS else {}),
            visual_pos_masks=seen[None] if len(batch.grids) else None,
            deepstack_visual_embeds=deep if len(batch.grids) else None,
        )
        return output.last_hidden_state[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, hidden] -> [n, vocabulary]."""
        weight = self.model.language_model.embed_tokens.weight if self.tied else self.lm_head.weight
        return linear(hidden, weight.to(hidden.dtype))

    def _see(self, batch: ChatBatch, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        patches, grids = batch.patches, batch.grids
        if not len(grids):
            t, h, w = DUMMY_GRID
            patches, grids = patches.new_zeros(t * h * w, 1536), grids.new_tensor([DUMMY_GRID])
        seen = self.model.visual(patches.to(dtype), grid_thw=grids)
        return seen.pooler_output, list(seen.deepstack_features)

    def _loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        total = hidden.new_zeros((), dtype=torch.float32) + 0 * hidden.sum().float()
        for part, wanted in zip(hidden.split(self.chunk), targets.split(self.chunk), strict=True):
            total = total + checkpoint(self._chunk_loss, part, wanted, use_reentrant=False)
        return total

    def _chunk_loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return cross_entropy(self.logits(hidden).float(), targets, reduction="sum")


def _embed_patches(embedding: Any, patches: torch.Tensor) -> torch.Tensor:
    """The tower's patch convolution as the linear layer it is; the same weights and outputs, many times faster."""
    weight = embedding.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1), embedding.proj.bias)
