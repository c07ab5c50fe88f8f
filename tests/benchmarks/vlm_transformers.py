"""The peer: a plain transformers loop, padded micro-batches, fused AdamW in bf16."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoConfig, Qwen3VLForConditionalGeneration

from cosmos_core.distributed import to_local
from cosmos_vlm.chat_processor import IGNORE_INDEX, TokenizedConversation
from cosmos_vlm.vision import frame_pairs, tower_patches
from tests.benchmarks.running import CLIP
from tests.benchmarks.vlm_ours import Ours

__all__ = ["Transformers", "micro_batches"]


def micro_batches(dialogs: Sequence[TokenizedConversation], count: int) -> list[list[TokenizedConversation]]:
    """Like lengths together, with padding at most a tenth more than a `count`-th of all tokens in each group; so there
    may be a few more groups than `count`."""
    rows = sorted(dialogs, key=lambda dialog: len(dialog.ids))
    groups: list[list[TokenizedConversation]] = []
    share = sum(len(dialog.ids) for dialog in rows) / count
    for dialog in rows:
        full = groups and len(dialog.ids) * (len(groups[-1]) + 1) > share * 1.1
        if not groups or full:
            groups.append([])
        groups[-1].append(dialog)
    return groups


class Transformers:
    """The same weights as `ours`, rounded to the precision of the arithmetic.

    plain: float32 weights under autocast, the plainest way to train in bfloat16.
    """

    def __init__(self, ours: Ours, *, plain: bool = False) -> None:
        self.device = ours.mesh.device
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.plain = plain
        self.config: Any = AutoConfig.from_pretrained(ours.family.folder)
        with torch.device(self.device):
            stored = torch.float32 if plain else self.dtype
            model: Any = Qwen3VLForConditionalGeneration._from_config(self.config, dtype=stored)
        theirs = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in ours.model.named_parameters():
                theirs[name].copy_(to_local(value.data))
                theirs[name].requires_grad_(value.requires_grad)
        self.model = model.train()
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        rates = ours.config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.trained,
            lr=rates.lr,
            betas=rates.betas,
            eps=rates.eps,
            weight_decay=rates.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.layers: list[Any] = list(model.model.language_model.layers)

    def compile(self) -> None:
        """Compile the language model's layers."""
        for layer in self.layers:
            layer.compile()

    def with_compiled(self, step: Callable[[], float], *, on: bool) -> float:
        """Take a step with the compiled layers, or with the plain ones."""
        compiled_calls = [layer._compiled_call_impl for layer in self.layers]
        if not on:
            for layer in self.layers:
                layer._compiled_call_impl = None
        loss = step()
        for layer, call in zip(self.layers, compiled_calls, strict=True):
            layer._compiled_call_impl = call
        return loss

    def stepper(self, groups: list[list[TokenizedConversation]]) -> Callable[[], float]:
        """A function that takes one optimizer step; its batches lie on the device already."""
        batches = [self._batch(group) for group in groups]
        total = self._num_loss_tokens(groups)

        return lambda: self._update(batches, total)

    def update(self, groups: list[list[TokenizedConversation]]) -> float:
        """One optimizer step; the mean loss before it."""
        return self._update([self._batch(group) for group in groups], self._num_loss_tokens(groups))

    def _update(self, batches: list[dict[str, torch.Tensor]], total: int) -> float:
        loss = self._backward(batches, total)
        torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss)

    def loss_and_norm(self, groups: list[list[TokenizedConversation]]) -> tuple[float, float]:
        """Mean loss and gradient norm, without an update."""
        loss = self._backward([self._batch(group) for group in groups], self._num_loss_tokens(groups))
        norm = float(torch.nn.utils.get_total_norm([p.grad.float() for p in self.trained if p.grad is not None]))
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss), norm

    def _backward(self, batches: list[dict[str, torch.Tensor]], total: int) -> torch.Tensor:
        loss = torch.zeros((), device=self.device)
        for batch in batches:
            with torch.autocast(self.device.type, self.dtype, enabled=self.plain and self.dtype == torch.bfloat16):
                part = self.model(**batch, use_cache=False, num_items_in_batch=total).loss
            part.backward()
            loss += part.detach()
        return loss

    @staticmethod
    def _num_loss_tokens(groups: list[list[TokenizedConversation]]) -> int:
        return sum(int((dialog.labels[1:] != IGNORE_INDEX).sum()) for group in groups for dialog in group)

    def _batch(self, group: list[TokenizedConversation]) -> dict[str, torch.Tensor]:
        shape = len(group), max(len(dialog.ids) for dialog in group)
        ids, mask = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        labels = torch.full(shape, IGNORE_INDEX)
        for row, dialog in enumerate(group):
            part = slice(len(dialog.ids))
            ids[row, part], labels[row, part], mask[row, part] = dialog.ids, dialog.labels, 1
        image, video = ids == self.config.image_token_id, ids == self.config.video_token_id
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": labels,
            "mm_token_type_ids": image.int() + 2 * video.int(),
        }
        for pixels, grid, is_video in (
            ("pixel_values", "image_grid_thw", False),
            ("pixel_values_videos", "video_grid_thw", True),
        ):
            members = [dialog for dialog in group if dialog.grids and dialog.has_video == is_video]
            if members:
                grids = [size for dialog in members for size in dialog.grids]
                pairs = frame_pairs(grids, [count for dialog in members for count in dialog.num_frames])
                patches = torch.cat([dialog.patches for dialog in members])
                inputs[pixels], inputs[grid] = tower_patches(patches, pairs, self.dtype), torch.tensor(grids)
        return {name: value.to(self.device) for name, value in inputs.items()}
