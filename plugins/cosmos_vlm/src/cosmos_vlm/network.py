"""Qwen3-VL for training: one vision call a step, packed dialogs, and a loss that never holds all logits."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

from cosmos_core.attention import PackedSequences
from cosmos_vlm.attention import COSMOS
from cosmos_vlm.batch import ChatBatch
from cosmos_vlm.loss import ChunkLoss, chunk_loss, summed_cross_entropy
from cosmos_vlm.vision import normalised, places_of

__all__ = ["ReasonerNetwork"]

DUMMY_GRID = (1, 2, 2)
"""Smallest picture; shown to the tower when a pack has none, because sharded weights need every rank's hand."""


class ReasonerNetwork(nn.Module):
    """transformers' Qwen3-VL under its own tensor names (``model.``, ``lm_head.``).

    alone: no other process holds parts of the weights, so that a frozen tower need not run for texts.
    """

    def __init__(self, config: Any, chunk: int) -> None:
        super().__init__()
        self.config = config
        self.chunk = chunk
        self.chunk_loss: ChunkLoss = chunk_loss
        self.alone = False
        self.model = Qwen3VLModel(config)
        self.tied = bool(config.tie_word_embeddings)
        if not self.tied:
            text = config.text_config
            self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        embedding: Any = self.model.visual.patch_embed
        embedding.forward = partial(_embed_patches, embedding)
        language: Any = self.model.language_model
        language._deepstack_process = _add_where_seen

    @property
    def blocks(self) -> list[nn.Module]:
        """Units of sharding, recomputation and compilation."""
        return [*self.model.visual.blocks, *self.model.language_model.layers]

    def forward(self, batch: ChatBatch, places: torch.Tensor | None = None) -> torch.Tensor:
        """Cross-entropy summed over the learned positions, float32 scalar; at `places`, the logits instead."""
        hidden = self.hidden(batch)
        if places is not None:
            return self.logits(hidden[places])
        learned, targets = (values.index_select(0, batch.learned) for values in (hidden, batch.targets))
        return summed_cross_entropy(learned, self._head(hidden.dtype), targets, self.chunk, self.chunk_loss)

    def hidden(self, batch: ChatBatch) -> torch.Tensor:
        """Final hidden states [N, hidden]."""
        language: Any = self.model.language_model
        embeds = language.embed_tokens(batch.ids)
        features, deep = self._see(batch, embeds.dtype) if self._must_see(batch) else (embeds[:0], [])
        if len(batch.grids):
            embeds = embeds.index_copy(0, batch.seen, features.to(embeds.dtype))
        else:
            embeds = embeds + 0 * (features.sum() + sum(part.sum() for part in deep)).to(embeds.dtype)
        output = language(
            inputs_embeds=embeds[None],
            position_ids=self._positions(batch)[:, None],
            attention_mask=None,
            use_cache=False,
            **self._kept_apart(batch.lengths, batch.ids.device),
            visual_pos_masks=batch.seen if len(batch.grids) else None,
            deepstack_visual_embeds=deep if len(batch.grids) else None,
        )
        return output.last_hidden_state[0]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[n, hidden] -> [n, vocabulary]."""
        return linear(hidden, self._head(hidden.dtype))

    def _head(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self.model.language_model.embed_tokens.weight if self.tied else self.lm_head.weight
        return weight.to(dtype)

    def _must_see(self, batch: ChatBatch) -> bool:
        """Without pictures the tower runs for the sake of other ranks, and for gradients of zero if it trains."""
        trains = any(parameter.requires_grad for parameter in self.model.visual.parameters())
        return bool(len(batch.grids)) or trains or not self.alone

    def _see(self, batch: ChatBatch, dtype: torch.dtype) -> tuple[torch.Tensor, list[torch.Tensor]]:
        patches, grids, frames = batch.patches, batch.grids, batch.frames
        if not len(grids):
            t, h, w = DUMMY_GRID
            patches, grids, frames = patches.new_zeros(t * h * w, 1536), grids.new_tensor([DUMMY_GRID]), (h * w,) * t
        seen = self.model.visual(
            normalised(patches, dtype),
            grid_thw=grids,
            **places_of(grids, self.model.visual, patches.device),
            **self._kept_apart(frames, patches.device),
        )
        return seen.pooler_output, list(seen.deepstack_features)

    @property
    def _packed(self) -> bool:
        """Whether attention knows the dialogs' lengths."""
        return bool(self.model.config._attn_implementation == COSMOS)

    def _positions(self, batch: ChatBatch) -> torch.Tensor:
        """Of time, row and column; before them, for the library's masks, those in the dialogs."""
        return batch.positions if self._packed else torch.cat([batch.starts[None], batch.positions])

    def _kept_apart(self, lengths: tuple[int, ...], device: torch.device) -> dict[str, Any]:
        """What the layers need to know of the sequences that attention must not leave."""
        if not self._packed:
            return {}
        return {"sequences": PackedSequences(lengths, device)}


def _embed_patches(embedding: Any, patches: torch.Tensor) -> torch.Tensor:
    """The tower's patch convolution as the linear layer it is; the same weights and outputs, many times faster."""
    weight = embedding.proj.weight
    return linear(patches.to(weight.dtype), weight.flatten(1), embedding.proj.bias)


def _add_where_seen(hidden: torch.Tensor, seen: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Deeper features of the tower into hidden states [1, N, hidden], at places int64 [V]: a mask's would have to be
    counted on the host first."""
    return hidden.index_add(1, seen, features[None].to(hidden.dtype))
