"""A lossless byte-level tokenizer built in code: bytes, Qwen's special tokens, and whole words of short captions.

A text is split into groups of letters, single digits, and groups of other characters. A piece in the table becomes one
token, any other piece becomes its bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from cosmos_vfm.tokenizer.text import CHAT

__all__ = ["EOS", "SPECIAL", "VOCAB_SIZE", "WordEncoder", "token_id"]

EOS = "<|im_end|>"
SPECIAL = ("<|endoftext|>", "<|im_start|>", EOS, "<|vision_start|>", "<|vision_end|>")
VOCAB_SIZE = 512

_WORDS = (
    "a", "an", "the", "of", "in", "on", "over", "to", "from", "and", "with", "is", "it", "its", "at", "by", "for",
    "moves", "moving", "stays", "background", "shape", "color", "direction", "subject", "subjects", "video", "clip",
    "camera", "frame", "object", "robot", "arm", "gripper", "table", "left", "right", "up", "down", "top", "bottom",
    "red", "yellow", "green", "cyan", "blue", "magenta", "white", "black", "grey", "gray", "orange", "purple",
    "brown", "pink", "circle", "square", "triangle", "star", "striped", "stripes", "checks", "checked", "waves",
    "wavy", "gradient", "plain", "small", "large", "big", "slow", "slowly", "fast", "quickly", "picks", "places",
    "pushes", "pulls", "opens", "closes", "moved", "near", "far", "description", "action", "actions", "time",
    "duration", "fps", "resolution", "aspect", "ratio", "style", "lighting", "user", "assistant", "system",
    "caption", "temporal", "setting",
)  # fmt: skip

_JOINTS = (
    '{"', '": "', '", "', '"}', '": ', ', "', '": {"', '"}, "', '": [{"', '"}], "', '"}]', '": ["', '"], "', "_", " ",
    ", ", ". ", ".", "\n", ": ", "-", ",", ":",
)  # fmt: skip

_PIECES = Regex(r"\p{L}+|\p{N}|[^\p{L}\p{N}]+")


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    to_unicode = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)

    def table_entry(piece: str) -> str:
        return "".join(part for part, _ in to_unicode.pre_tokenize_str(piece))

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [table_entry(piece) for piece in (*_WORDS, *_JOINTS)]
    entries = list(dict.fromkeys([*alphabet, *pieces]))
    model = models.BPE(vocab={entry: index for index, entry in enumerate(entries)}, merges=[], ignore_merges=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(_PIECES, "isolated"), to_unicode])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    assert tokenizer.get_vocab_size() <= VOCAB_SIZE
    return tokenizer


def token_id(token: str) -> int:
    """Id of a special token."""
    index = _tokenizer().token_to_id(token)
    assert index is not None
    return index


class WordEncoder:
    """CaptionEncoder without state: every process builds the same table."""

    def chat_ids(self, caption: str) -> list[int]:
        """Token ids of the caption as one user message, with the generation prompt."""
        return list(self.encode(CHAT.format(caption=caption)))

    @staticmethod
    def encode(words: str) -> list[int]:
        """Token ids of a text, special tokens included."""
        encoded: Any = _tokenizer().encode(words)
        return list(encoded.ids)

    @staticmethod
    def decode(ids: list[int]) -> str:
        """The exact text of token ids."""
        return _tokenizer().decode(ids, skip_special_tokens=False)
