"""Sizes of published backbones, so that a plan needs no download."""

from __future__ import annotations

from typing import Any

from cosmos_vlm.architecture import architecture_of
from cosmos_vlm.catalog import is_hub_name, pinned
from cosmos_vlm.config import Backbone
from cosmos_vlm.weights import config_folder

__all__ = ["sizes_of"]

_SMALL_TOWER = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
_LARGE_TOWER = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
_2B = ((2048, 6144, 28, 16), _SMALL_TOWER, True)
_4B = ((2560, 9728, 36, 32), _SMALL_TOWER, True)
_8B = ((4096, 12288, 36, 32), _LARGE_TOWER, False)
_32B = ((5120, 25600, 64, 64), _LARGE_TOWER, False)
_PUBLISHED = {
    "Qwen/Qwen3-VL-2B-Instruct": _2B,
    "Qwen/Qwen3-VL-4B-Instruct": _4B,
    "Qwen/Qwen3-VL-8B-Instruct": _8B,
    "Qwen/Qwen3-VL-32B-Instruct": _32B,
    "nvidia/Cosmos3-Nano-Reasoner": _8B,
    "nvidia/Cosmos3-Super-Reasoner": _32B,
}
"""Hidden size, MLP, layers and heads of the language model; the vision tower; whether embedding and head are one."""


def sizes_of(backbone: Backbone) -> Any:
    """Transformers' configuration of a backbone, from its folder or, for a published one, from this table.

    Raises UserError when it is neither.
    """
    from transformers import Qwen3VLConfig

    name = pinned(backbone.model_name)[0]
    if not is_hub_name(backbone.model_name) or name not in _PUBLISHED:
        return architecture_of(config_folder(backbone))
    (hidden, mlp, layers, heads), tower, tied = _PUBLISHED[name]
    text = {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
        "tie_word_embeddings": tied,
    }
    vision = {**tower, "num_heads": 16, "out_hidden_size": hidden}
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied)
