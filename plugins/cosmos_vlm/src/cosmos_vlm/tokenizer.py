"""The backbone's tokenizer, checked against its network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.strict_json import read_object

__all__ = ["SPECIAL", "lacking_configs", "tokenizer_of"]

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_IN_CONFIG = {
    "<|vision_start|>": "vision_start_token_id",
    "<|vision_end|>": "vision_end_token_id",
    "<|image_pad|>": "image_token_id",
    "<|video_pad|>": "video_token_id",
}
_NEEDED = ("image_token_id", "video_token_id")
"""Ids that the network uses; the others are checked only if config.json has them."""
UNUSABLE = "the backbone's tokenizer cannot be used; nothing was started"


def lacking_configs(folder: Path) -> list[str]:
    """What a folder lacks to be a backbone without its weights."""
    slow = all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    needed = ["config.json", "tokenizer_config.json", *(() if slow else ("tokenizer.json",))]
    return [name for name in needed if not (folder / name).is_file()]


def tokenizer_of(folder: Path, architecture: Any) -> Any:
    """The tokenizer in a backbone's folder. Raises UserError when files are missing or do not fit the network."""
    from transformers import AutoTokenizer

    if "tokenizer.json" in lacking_configs(folder):
        raise _unusable(folder, ["there is no tokenizer.json"])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers has no error class for damaged files; some raise Exception itself.
        raise _unusable(folder, [first_line(error)]) from None
    if not tokenizer.chat_template:
        tokenizer.chat_template = _template_of_processor(folder)
    reasons = list(_mismatches(tokenizer, folder, architecture))
    if reasons:
        raise _unusable(folder, reasons)
    _try(tokenizer, folder)
    return tokenizer


def _try(tokenizer: Any, folder: Path) -> None:
    """Raises UserError when a question cannot be put through the template and the tokenizer."""
    try:
        text = tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False)
        tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except Exception as error:  # The template is a program of the backbone's, which may raise anything.
        raise _unusable(folder, [f"its chat template or its settings fail: {first_line(error)}"]) from None


def _template_of_processor(folder: Path) -> str | None:
    """The chat template in the file where older versions of transformers keep that of a processor."""
    file = folder / "chat_template.json"
    template = read_object(file, UNUSABLE).get("chat_template") if file.is_file() else None
    return template if isinstance(template, str) else None


def _mismatches(tokenizer: Any, folder: Path, architecture: Any) -> Iterator[str]:
    """Why the tokenizer does not fit the network."""
    known: Mapping[str, int] = tokenizer.get_vocab()
    missing = [token for token in SPECIAL if token not in known]
    if missing:
        yield f"it has no {', '.join(missing)}"
    if not isinstance(tokenizer.chat_template, str):
        yield "it has no chat template"
    if not tokenizer.is_fast:
        yield "it gives no offsets of tokens in a text (it is not a fast tokenizer)"
    rows, largest = architecture.text_config.vocab_size, max(known.values())
    if largest >= rows:
        yield f"its ids go up to {largest}, the model's embedding has {rows} rows"
    recorded = read_object(folder / "config.json", UNUSABLE)
    for token, key in _IN_CONFIG.items():
        required = key in recorded or key in _NEEDED
        if required and token in known and known[token] != getattr(architecture, key):
            yield f"{token} is {known[token]}, the model's {key} is {getattr(architecture, key)}"


def _unusable(folder: Path, reasons: list[str]) -> UserError:
    problems = [
        Problem(
            message=f"the tokenizer in {folder}: {reason}",
            key="model.backbone.model_name",
            hint="take tokenizer and configuration from the same model",
        )
        for reason in reasons
    ]
    return UserError(UNUSABLE, problems)
