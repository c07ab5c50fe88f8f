"""The backbone's own tokenizer, checked against the network it belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError, first_line

__all__ = ["SPECIAL", "tokenizer_of"]

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_IN_CONFIG = {
    "<|vision_start|>": "vision_start_token_id",
    "<|vision_end|>": "vision_end_token_id",
    "<|image_pad|>": "image_token_id",
    "<|video_pad|>": "video_token_id",
}
_NEEDED = ("image_token_id", "video_token_id")
"""What the network uses; the others count where the configuration has them."""


def tokenizer_of(folder: Path, architecture: Any) -> Any:
    """From a backbone's folder. Raises UserError when its files are missing, or do not belong to the network."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # The library has no error of its own for damaged files; some raise Exception itself.
        raise _refused(folder, [first_line(error)]) from None
    reasons = list(_reasons(tokenizer, folder, architecture))
    if reasons:
        raise _refused(folder, reasons)
    return tokenizer


def _reasons(tokenizer: Any, folder: Path, architecture: Any) -> Iterator[str]:
    """Why it does not fit."""
    known: Mapping[str, int] = tokenizer.get_vocab()
    missing = [token for token in SPECIAL if token not in known]
    if missing:
        yield f"it has no {', '.join(missing)}"
    if not tokenizer.is_fast:
        yield "it does not say where its tokens lie in a text (it is no fast tokenizer)"
    rows, largest = architecture.text_config.vocab_size, max(known.values())
    if largest >= rows:
        yield f"its ids go up to {largest}, the model's embedding has {rows} rows"
    recorded = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for token, key in _IN_CONFIG.items():
        given = key in recorded or key in _NEEDED
        if given and token in known and known[token] != getattr(architecture, key):
            yield f"{token} is {known[token]}, the model's {key} is {getattr(architecture, key)}"


def _refused(folder: Path, reasons: list[str]) -> UserError:
    problems = [
        Problem(
            message=f"the tokenizer in {folder}: {reason}",
            key="model.backbone.model_name",
            hint="take tokenizer and configuration from one and the same model",
        )
        for reason in reasons
    ]
    return UserError("the backbone's tokenizer cannot be used; nothing was started", problems)
