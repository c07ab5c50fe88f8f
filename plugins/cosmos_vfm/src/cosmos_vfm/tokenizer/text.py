"""Captions to token ids, in the chat frame of the base models (docs/models/generator.md, Prompt tokens)."""

from __future__ import annotations

from typing import Any, Protocol

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_vfm.config import TextTokenizer
from cosmos_vfm.tiers import NetworkConfig

__all__ = ["CHAT", "TextTokens", "build_text_tokenizer"]

CHAT = "<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
VISION_START = "<|vision_start|>"


class _Encoder(Protocol):
    def chat_ids(self, caption: str) -> list[int]: ...


@frozen
class TextTokens:
    """Token ids of a caption as the network reads them; picklable for loader workers."""

    encoder: _Encoder
    eos: int
    vision_start: int

    def ids(self, caption: str, limit: int) -> tuple[int, ...]:
        """Chat frame cut to `limit` tokens, then eos and vision start. An empty caption keeps its frame."""
        return (*self.encoder.chat_ids(caption)[:limit], self.eos, self.vision_start)


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


def build_text_tokenizer(config: TextTokenizer, network: NetworkConfig) -> TextTokens:
    """The tokenizer of a configuration. Raises UserError when its files cannot be had."""
    if config.type == "words":
        from cosmos_vfm.tokenizer.words import EOS, WordEncoder, token_id

        return TextTokens(WordEncoder(), token_id(EOS), token_id(VISION_START))
    name, revision = (config.path, "main") if config.path else (network.text_model, network.text_revision)
    tokenizer = _from_files(name, revision)
    if VISION_START not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [VISION_START]})
    return TextTokens(_HubEncoder(tokenizer), tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(VISION_START))


def _from_files(name: str, revision: str) -> Any:
    if not name:
        problem = Problem(
            message="is not set, and this tier has no tokenizer files of its own", key="model.text_tokenizer.path"
        )
        raise UserError("there is no text tokenizer", [problem])
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        problem = Problem(
            message=f"cannot load '{name}': {reason}",
            key="model.text_tokenizer.path",
            hint="set it to a folder with the tokenizer's files",
        )
        raise UserError("the text tokenizer's files cannot be had", [problem]) from None
