"""Model FLOPs of the reasoner, from sizes and lengths alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from torch import nn

from cosmos_core.train import Backward

__all__ = ["BackwardOfParts", "language_flops", "tower_flops"]

MERGERS = ("model.visual.merger.", "model.visual.deepstack_merger_list.")


@frozen
class BackwardOfParts:
    """Of the vision tower's blocks, its mergers, and the language model with its head."""

    tower: Backward
    mergers: Backward
    language: Backward

    @classmethod
    def of(cls, model: nn.Module) -> BackwardOfParts:
        """By what trains. A frozen part still passes gradients on to one before it that trains."""
        parts: dict[str, list[tuple[str, nn.Parameter]]] = {"tower": [], "mergers": [], "language": []}
        for name, parameter in model.named_parameters():
            part = "mergers" if name.startswith(MERGERS) else "tower" if ".visual." in name else "language"
            parts[part].append((name, parameter))
        tower, mergers, language = (Backward.of(parameters) for parameters in parts.values())
        if tower is not Backward.NONE and mergers is Backward.NONE:
            mergers = Backward.INPUTS
        if mergers is not Backward.NONE and language is Backward.NONE:
            language = Backward.INPUTS
        return cls(tower, mergers, language)


def language_flops(text: Any, lengths: Sequence[int], learned: int, backward: Backward) -> float:
    """FLOPs of the language model, forward and backward; recomputation does not count, causal attention counts half.

    text: transformers' ``text_config``. lengths: tokens of each dialog. learned: tokens with logits.
    """
    q, kv = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    block = text.hidden_size * (2 * q + 2 * kv + 3 * text.intermediate_size)
    linear = 2 * text.num_hidden_layers * block * sum(lengths) + 2 * text.hidden_size * text.vocab_size * learned
    attention = 2 * q * text.num_hidden_layers * sum(length**2 for length in lengths)
    return backward.linear * linear + backward.attention * attention


def tower_flops(vision: Any, seqlens: Sequence[int], tower: Backward, mergers: Backward) -> float:
    """FLOPs of the vision tower, forward and backward, without recomputation.

    vision: transformers' ``vision_config``. seqlens: patches of each image or frame pair.
    """
    width, merged = vision.hidden_size, vision.hidden_size * vision.spatial_merge_size**2
    patches = sum(seqlens)
    embedding = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * width
    blocks = vision.depth * (4 * width**2 + 2 * width * vision.intermediate_size)
    attention = 4 * width * vision.depth * sum(length**2 for length in seqlens)
    one_merger = merged * (merged + vision.out_hidden_size) / vision.spatial_merge_size**2
    merging = 2 * (1 + len(vision.deepstack_visual_indexes)) * one_merger * patches
    # No gradient is computed for pixels, so the embedding's backward pass is that of its weights alone.
    embedded = 2 * embedding * patches * (1 if tower is Backward.NONE else 2)
    return embedded + 2 * blocks * patches * tower.linear + attention * tower.attention + merging * mergers.linear
