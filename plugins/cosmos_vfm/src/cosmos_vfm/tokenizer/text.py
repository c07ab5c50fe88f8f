"""Captions to token ids, in the chat template of the base models.

See docs/models/generator.md, Prompt tokens.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

__all__ = ["CHAT", "VISION_START", "CaptionEncoder", "TextTokens"]

CHAT = "<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
VISION_START = "<|vision_start|>"


class CaptionEncoder(Protocol):
    """Interface of text tokenizers."""

    def chat_ids(self, caption: str) -> list[int]:
        """Token ids of the caption as one user message, with the generation prompt."""
        ...

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens included."""
        ...


@frozen
class TextTokens:
    """Captions to the token ids of the network; picklable for loader workers."""

    encoder: CaptionEncoder
    eos: int
    vision_start: int

    def ids(self, caption: str, limit: int) -> tuple[int, ...]:
        """Chat message cut to `limit` tokens, then eos and vision start. An empty caption is an empty message."""
        return (*self.encoder.chat_ids(caption)[:limit], self.eos, self.vision_start)
