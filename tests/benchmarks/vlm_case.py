"""One pack of dialogs for every contender of the reasoner's step benchmark, and the shapes of the networks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from transformers import Qwen3VLConfig

from cosmos_core.data import Chat, Image, Message, Video
from cosmos_core.train import Backward
from cosmos_vlm.chat_processor import IGNORE_INDEX, ChatProcessor, TokenizedConversation
from cosmos_vlm.flops import language_flops, tower_flops
from tests.tiny_reasoner import write_tokenizer

__all__ = ["CASES", "Case", "tflop", "write_backbone"]

SMALL_TOWER = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
LARGE_TOWER = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
SMOKE_TOWER = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "deepstack_visual_indexes": [0]}


@frozen
class Case:
    """text: sizes of the language model; tower: of the vision tower. documents: (number, tokens) of plain texts, all
    learned; without, dialogs of text, images and videos up to `budget` tokens."""

    name: str
    text: dict[str, int]
    tower: dict[str, Any]
    tied: bool
    budget: int
    documents: tuple[int, int] | None = None
    frozen_tower: bool = False

    def dialogs(self, step: int, processor: ChatProcessor) -> list[TokenizedConversation]:
        """The pack at `step`; lengths are the same at every step."""
        random = torch.Generator().manual_seed(1000 + step)
        if self.documents is not None:
            count, length = self.documents
            return [_document(f"document {index}", length, self.text["vocab_size"], random) for index in range(count)]
        pack: list[TokenizedConversation] = []
        for chat in _chats(random, small=self.budget < 1000):
            dialog = processor.encode(chat)
            if sum(len(member.ids) for member in pack) + len(dialog.ids) < self.budget:
                pack.append(dialog)
            elif len(dialog.ids) < SHORT:
                return pack
        return pack


SHORT = 420
"""When a dialog as short as this does not fit any more, the pack is full."""


def _document(key: str, length: int, vocab: int, random: torch.Generator) -> TokenizedConversation:
    ids = torch.randint(0, min(vocab, 256), (length,), generator=random)
    places = torch.arange(length).expand(3, -1)
    return TokenizedConversation(
        key=key,
        ids=ids,
        labels=ids.clone(),
        positions=places,
        patches=torch.zeros(0, 768, dtype=torch.uint8),
        grids=(),
        num_frames=(),
        prompt_len=0,
        reference="",
        num_prompt_media=0,
        has_video=False,
        visual_token_indices=torch.zeros(0, dtype=torch.int64),
    )


def _chats(random: torch.Generator, *, small: bool) -> Iterator[Chat]:
    """Dialogs with text, images and videos in turn; a question and an answer each."""

    def text(length: int) -> str:
        return "".join(chr(97 + code) for code in torch.randint(0, 26, (length,), generator=random).tolist())

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)

    def video(frames: int, height: int, width: int) -> Video:
        return Video(pixels(3, frames, height, width), tuple(index / 4 for index in range(frames)))

    kinds: tuple[tuple[tuple[Any, ...], int, int], ...] = (
        ((), 120, 900),
        ((Image(pixels(3, 448, 448)),), 60, 150),
        ((video(16, 256, 384),), 60, 60),
        ((), 60, 400),
        ((Image(pixels(3, 672, 896)),), 80, 300),
        ((video(32, 320, 512),), 40, 40),
        ((), 200, 1500),
        ((Image(pixels(3, 448, 448)), Image(pixels(3, 448, 448))), 60, 120),
        ((), 80, 250),
    )
    if small:
        kinds = (((), 12, 40), ((Image(pixels(3, 64, 96)),), 8, 20), ((video(4, 64, 64),), 8, 9), ((), 8, 60))
    for number, (media, question_length, answer_length) in enumerate(cycle(kinds)):
        user = Message("user", (*media, text(question_length)))
        yield Chat(f"dialog {number}", (user, Message("assistant", (text(answer_length),))))


def _text(hidden: int, mlp: int, layers: int, heads: int, vocab: int = 151_936) -> dict[str, int]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8 if hidden > 64 else 2,
        "head_dim": 128 if hidden > 64 else 16,
        "vocab_size": vocab,
    }


CASES = {
    "text": Case("text", _text(4096, 12_288, 8, 32), LARGE_TOWER, False, 16_000, (8, 2000), frozen_tower=True),
    "mixed": Case("mixed", _text(2048, 6144, 28, 16), SMALL_TOWER, True, 16_384),
    "smoke text": Case("smoke text", _text(32, 48, 2, 4, 300), SMOKE_TOWER, False, 400, (4, 50), frozen_tower=True),
    "smoke mixed": Case("smoke mixed", _text(32, 48, 2, 4, 300), SMOKE_TOWER, True, 400),
}


def write_backbone(folder: Path, case: Case) -> Path:
    """Configuration and tokenizer, without weights."""
    folder.mkdir(parents=True)
    ids = write_tokenizer(folder)
    sections = [24, 20, 20] if case.text["head_dim"] == 128 else [4, 2, 2]
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    heads = 16 if case.tower["hidden_size"] > 64 else 2
    Qwen3VLConfig(
        tie_word_embeddings=case.tied,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        text_config={**case.text, "tie_word_embeddings": case.tied, "rope_parameters": rope},
        vision_config={**case.tower, "num_heads": heads, "out_hidden_size": case.text["hidden_size"]},
    ).save_pretrained(folder)
    return folder


def tflop(case: Case, architecture: Any, dialogs: list[TokenizedConversation]) -> tuple[float, float]:
    """Model TFLOP of a step, (language model, tower): forward and backward, causal halved, no recomputation; the head
    at learned positions alone.

    architecture: transformers' configuration.
    """
    learned = sum(int((dialog.labels[1:] != IGNORE_INDEX).sum()) for dialog in dialogs)
    lengths = [len(dialog.ids) for dialog in dialogs]
    language = language_flops(architecture.text_config, lengths, learned, Backward.WEIGHTS)
    seqlens = [rows * columns for dialog in dialogs for count, rows, columns in dialog.grids for _ in range(count)]
    trained = Backward.NONE if case.frozen_tower else Backward.WEIGHTS
    return language / 1e12, tower_flops(architecture.vision_config, seqlens, trained, trained) / 1e12
