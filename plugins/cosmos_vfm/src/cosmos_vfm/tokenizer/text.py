"""Captions as the network reads them, in the chat frame of the base models.

Source: docs/models/generator.md, Prompt tokens.
"""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

__all__ = ["CHAT", "VISION_START", "CaptionEncoder", "TextTokens"]

CHAT = "<|im_start|>user\n{caption}<|im_end|>\n<|im_start|>assistant\n"
VISION_START = "<|vision_start|>"


class CaptionEncoder(Protocol):
    """What a text tokenizer does for captions."""

    def chat_ids(self, caption: str) -> list[int]:
        """Token ids of the caption in its chat frame."""
        ...


@frozen
class TextTokens:
    """Token ids of a caption as the network reads them; picklable for loader workers."""

    encoder: CaptionEncoder
    eos: int
    vision_start: int

    def ids(self, caption: str, limit: int) -> tuple[int, ...]:
        """Chat frame cut to `limit` tokens, then eos and vision start. An empty caption keeps its frame."""
        return (*self.encoder.chat_ids(caption)[:limit], self.eos, self.vision_start)
