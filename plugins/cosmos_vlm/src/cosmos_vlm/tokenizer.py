"""The backbone's own tokenizer, checked against the network it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError

__all__ = ["SPECIAL", "tokenizer_of"]

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_IN_CONFIG = {"<|image_pad|>": "image_token_id", "<|video_pad|>": "video_token_id"}


def tokenizer_of(folder: Path, architecture: Any) -> Any:
    """From a backbone's folder. Raises UserError when its files are missing, or do not belong to the network."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _refused(folder, str(error).strip().splitlines()[0]) from None
    known = tokenizer.get_vocab()
    missing = [token for token in SPECIAL if token not in known]
    if missing:
        raise _refused(folder, f"it has no {', '.join(missing)}")
    for token, key in _IN_CONFIG.items():
        expected = getattr(architecture, key)
        if known[token] != expected:
            raise _refused(folder, f"{token} is {known[token]}, the model's {key} is {expected}")
    return tokenizer


def _refused(folder: Path, reason: str) -> UserError:
    problem = Problem(
        message=f"the tokenizer in {folder}: {reason}",
        key="model.backbone.model_name",
        hint="take tokenizer and configuration from one and the same model",
    )
    return UserError("the backbone's tokenizer cannot be used; nothing was started", [problem])
