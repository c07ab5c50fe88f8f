"""Why no network can be built from a backbone's configuration, whose values have the right types by now."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["faults"]

MAX_SIZE, MAX_LAYERS = 2**24, 1024
LAYERS = ("num_hidden_layers", "depth")
TEXT = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "max_position_embeddings"),
)
VISION = ("hidden_size", "intermediate_size", "depth", "num_heads", "out_hidden_size", "num_position_embeddings")
REQUIRED = {"in_channels": 3, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
"""What the patches here are made for."""


def faults(config: Any) -> Iterator[str]:
    """One text for each value, with its key."""
    text, vision = config.text_config, config.vision_config
    wrong = [*_sizes("text_config", text, TEXT), *_sizes("vision_config", vision, VISION)]
    yield from wrong
    for key, value in REQUIRED.items():
        if getattr(vision, key) != value:
            yield f"vision_config.{key} is {getattr(vision, key)!r:.80}; patches here need {value}"
    yield from _numbers(text, vision)
    if not wrong:
        yield from _that_do_not_fit(text, vision)
        yield from _positions(text, vision)


def _sizes(section: str, config: Any, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        value, most = getattr(config, key), MAX_LAYERS if key in LAYERS else MAX_SIZE
        if type(value) is not int or not 0 < value <= most:
            yield f"{section}.{key} is {value!r:.80}, not a whole number from 1 to {most:,}"


def _numbers(text: Any, vision: Any) -> Iterator[str]:
    from transformers.activations import ACT2FN

    for section, config in (("text_config", text), ("vision_config", vision)):
        if config.hidden_act not in ACT2FN:
            yield f"{section}.hidden_act is {config.hidden_act!r:.80}, which is no known function"
        if not _is_positive(config.initializer_range):
            yield f"{section}.initializer_range is {config.initializer_range!r:.80}, not a positive number"
    if not _is_positive(text.rms_norm_eps):
        yield f"text_config.rms_norm_eps is {text.rms_norm_eps!r:.80}, not a positive number"
    if not 0 <= text.attention_dropout < 1:
        yield f"text_config.attention_dropout is {text.attention_dropout!r:.80}, not a share below 1"


def _that_do_not_fit(text: Any, vision: Any) -> Iterator[str]:
    if text.num_attention_heads % text.num_key_value_heads:
        yield "text_config.num_attention_heads is no multiple of num_key_value_heads"
    if vision.hidden_size % (4 * vision.num_heads):
        yield "vision_config.hidden_size is no multiple of 4 x num_heads"
    if vision.out_hidden_size != text.hidden_size:
        yield "vision_config.out_hidden_size is not text_config.hidden_size"
    if math.isqrt(vision.num_position_embeddings) ** 2 != vision.num_position_embeddings:
        yield "vision_config.num_position_embeddings is no square"
    deep = vision.deepstack_visual_indexes
    if not all(0 <= layer < vision.depth for layer in deep):
        yield "vision_config.deepstack_visual_indexes names layers that the tower does not have"


def _positions(text: Any, vision: Any) -> Iterator[str]:
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

    for section, config in (("text_config", text), ("vision_config", vision)):
        if not _is_positive(config.rope_parameters.get("rope_theta")):
            yield f"{section}.rope_parameters.rope_theta is no positive number"
    if vision.rope_parameters.get("rope_type") != "axial":
        yield "vision_config.rope_parameters.rope_type is not 'axial'"
    parts = text.rope_parameters.get("mrope_section", [24, 20, 20])
    if not isinstance(parts, list) or [type(part) for part in parts] != [int] * 3 or 2 * sum(parts) != text.head_dim:
        yield "text_config.rope_parameters.mrope_section is not three numbers whose sum is half of head_dim"
    try:
        Qwen3VLTextRotaryEmbedding(config=text)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        yield f"text_config.rope_parameters cannot be used: {type(error).__name__} {error}"


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < math.inf
