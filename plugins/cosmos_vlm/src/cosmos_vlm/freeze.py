"""Which parameters the `[model.freeze]` table keeps from training (spec/vlm.md 3.6)."""

from __future__ import annotations

import re

from torch import nn

from cosmos_vlm.config import Freeze

__all__ = ["freeze"]

_PARTS = {
    "freeze_vision_encoder": r"^model\.visual\.(patch_embed|blocks|pos_embed)\.",
    "freeze_mm_projector": r"^model\.visual\.(merger|deepstack_merger_list)\.",
    "freeze_llm": r"^(model\.language_model|lm_head)\.",
}


def freeze(model: nn.Module, config: Freeze) -> None:
    """Switch gradients off, in place."""
    patterns = [pattern for name, pattern in _PARTS.items() if getattr(config, name)] + list(config.frozen_params)
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            parameter.requires_grad_(False)
