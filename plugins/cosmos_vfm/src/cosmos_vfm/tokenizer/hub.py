"""The base models' own text tokenizer, through transformers."""

from __future__ import annotations

from os.path import isdir
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.errors import Problem, UserError, first_line
from cosmos_core.hub import unreachable
from cosmos_vfm.tokenizer.text import CHAT, VISION_START, TextTokens

__all__ = ["hub_tokens"]


FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model")
"""One of them holds a tokenizer's words."""


@frozen
class _HubEncoder:
    """A transformers tokenizer with the model's own chat template."""

    tokenizer: Any

    def chat_ids(self, caption: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            return list(self.tokenizer.encode(CHAT.format(caption=caption), add_special_tokens=False))
        messages = [{"role": "user", "content": caption}]
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        return list(ids)

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids))


def hub_tokens(name: str, revision: str) -> TextTokens:
    """The tokenizer in a folder or on the Hub. Raises UserError when its files cannot be loaded."""
    if not name:
        problem = Problem(
            message="is not set, and this model size has no tokenizer of its own", key="model.text_tokenizer.path"
        )
        raise UserError("there is no text tokenizer", [problem])
    # Without it transformers advises on names of the Hub, or makes a tokenizer without words.
    if isdir(name) and not any(Path(name, file).is_file() for file in FILES):
        raise _unusable(name, f"there is no {FILES[0]}; put back the tokenizer's files")
    try:
        tokens = _load(name, revision)
        ids = tokens.ids("a ball", 16)
    except Exception as error:  # Its files hold settings and a template that may make transformers raise anything.
        raise _unusable(name, first_line(error)) from None
    if not all(type(token) is int for token in ids):
        raise _unusable(name, "it names no token that ends a text")
    return tokens


def _load(name: str, revision: str) -> TextTokens:
    from transformers import AutoTokenizer

    fault = "" if isdir(name) else unreachable()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=False, local_files_only=bool(fault)
        )
    except (OSError, ValueError) as error:
        if not fault:
            raise
        message = f"it is not in the Hub's cache, and the Hub cannot be reached: {fault}"
        raise ValueError(message) from error
    if VISION_START not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [VISION_START]})
    return TextTokens(_HubEncoder(tokenizer), tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(VISION_START))


def _unusable(name: str, reason: str) -> UserError:
    problem = Problem(
        message=f"cannot load '{name}': {reason}",
        key="model.text_tokenizer.path",
        hint="set it to a folder with tokenizer files, such as components/text_tokenizer of a converted base",
    )
    return UserError("the text tokenizer cannot be loaded", [problem])
