"""A dialog as tokens, labels, positions and patches.

See docs/models/reasoner.md, Labels; docs/models/reasoner.md, Position ids.

The rendered text is tokenized as a whole, so a token may span several texts of a message, or a text and the template
around it. A token that belongs in part to the assistant's text is learned, for example the line break of its header
joined with one that begins the answer.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from attrs import frozen

from cosmos_core.data import Chat, UnreadableSample, Video
from cosmos_vlm.chat_template import Grid, RenderedChat, generation_prompt, render_chat
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.tokenizer import SPECIAL

__all__ = ["IGNORE_INDEX", "PADS", "ChatProcessor", "PromptMedia", "TokenizedConversation", "TokenizedPrompt"]

IGNORE_INDEX = -100
PADS = ("<|image_pad|>", "<|video_pad|>")
CACHE_SIZE, MAX_CACHED_TOKENS = 256, 2048
"""How many texts a processor caches, and up to how many tokens each: many samples ask the same question."""


@frozen(eq=False)
class TokenizedConversation:
    """ids, labels: int64 [n]; labels are IGNORE_INDEX where nothing is learned.

    positions: int64 [3, n], time, row, column.

    patches: uint8 [p, 1536]. grids: (t, h, w) in patches of each image or video, in order of appearance. prompt_len:
    tokens before the assistant's last message with text; num_prompt_media: how many of `grids` come before it;
    reference: its text. has_video: whether a video is among the media. visual_token_indices: int64 [v].
    """

    key: str
    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: tuple[Grid, ...]
    prompt_len: int
    reference: str
    num_prompt_media: int
    has_video: bool
    visual_token_indices: torch.Tensor

    @property
    def kind(self) -> str:
        """'image', 'video' or 'text'; the pool packer does not mix them."""
        return ("video" if self.has_video else "image") if self.grids else "text"

    @property
    def num_loss_tokens(self) -> int:
        """Tokens that are learned."""
        return int((self.labels != IGNORE_INDEX).sum())


@frozen(eq=False)
class PromptMedia:
    """An image or a video of a prompt. patches: uint8 [p, 1536]. grid: (t, h, w) in patches."""

    patches: torch.Tensor
    grid: Grid
    is_video: bool


@frozen(eq=False)
class TokenizedPrompt:
    """ids: int64 [n], up to where the assistant answers. media: in order of appearance."""

    ids: torch.Tensor
    media: tuple[PromptMedia, ...]


@frozen(eq=False)
class _Tokens:
    """What follows from the text and the sizes of the media alone; cached, and shared by equal conversations."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    visual_token_indices: torch.Tensor
    prompt_len: int


class _TokenBuilder:
    """Collects tokens with their labels and positions. prompt_len: how many of them belong to the prompt."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.positions: list[tuple[int, int, int]] = []
        self.visual_token_indices: list[int] = []
        self.next_position = 0
        self.prompt_len = 0

    def add_text(self, token: int, *, learned: bool) -> None:
        self.ids.append(token)
        self.labels.append(token if learned else IGNORE_INDEX)
        self.positions.append((self.next_position,) * 3)
        self.next_position += 1

    def add_vision(self, token: int, rows: int, columns: int) -> None:
        """An image or a frame pair: rows x columns tokens at one time."""
        self.visual_token_indices += range(len(self.ids), len(self.ids) + rows * columns)
        self.ids += [token] * rows * columns
        self.labels += [IGNORE_INDEX] * rows * columns
        first = self.next_position
        self.positions += [(first, first + row, first + column) for row, column in product(range(rows), range(columns))]
        self.next_position += max(rows, columns)

    def build(self) -> _Tokens:
        return _Tokens(
            ids=torch.tensor(self.ids),
            labels=torch.tensor(self.labels),
            positions=torch.from_numpy(np.array(self.positions, np.int64).T.copy()),
            visual_token_indices=torch.tensor(self.visual_token_indices, dtype=torch.int64),
            prompt_len=self.prompt_len,
        )


class ChatProcessor:
    """Holds a tokenizer; picklable for loader workers.

    generation_prompt: tokens after which the model answers.
    """

    def __init__(self, tokenizer: Any, limits: PixelLimits) -> None:
        self.tokenizer = tokenizer
        self.limits = limits
        self.special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
        self.generation_prompt: list[int] = tokenizer.encode(generation_prompt(tokenizer), add_special_tokens=False)
        self._cache: dict[Any, _Tokens] = {}

    def encode(self, chat: Chat, limits: PixelLimits | None = None) -> TokenizedConversation:
        """Tokens, labels, positions and patches. limits: instead of the processor's.

        Raises UnreadableSample for unknown roles, for shapes the vision tower cannot take, for texts that hold special
        tokens of media or messages, and when nothing is learned.
        """
        try:
            rendered = render_chat(chat, self.tokenizer, limits or self.limits)
            tokens = self._tokens(rendered)
        except ValueError as error:
            raise UnreadableSample(chat.where or chat.key, str(error)) from None
        conversation = TokenizedConversation(
            key=chat.key,
            ids=tokens.ids,
            labels=tokens.labels,
            positions=tokens.positions,
            patches=torch.cat(rendered.patches) if rendered.patches else torch.zeros(0, 1536, dtype=torch.uint8),
            grids=tuple(rendered.grids),
            prompt_len=tokens.prompt_len,
            reference=rendered.reference,
            num_prompt_media=rendered.num_prompt_media,
            has_video=any(isinstance(part, Video) for message in chat.messages for part in message.content),
            visual_token_indices=tokens.visual_token_indices,
        )
        if not conversation.num_loss_tokens:
            raise UnreadableSample(chat.where or chat.key, "the assistant says nothing")
        return conversation

    def prompt(self, chat: Chat) -> TokenizedPrompt:
        """What the model is given to answer the dialog with the assistant's next message.

        Raises UnreadableSample as `encode` does, except that nothing need be learned.
        """
        try:
            rendered = render_chat(chat, self.tokenizer, self.limits)
            ids = self._tokens(rendered).ids
        except ValueError as error:
            raise UnreadableSample(chat.key, str(error)) from None
        parts = [part for message in chat.messages for part in message.content if not isinstance(part, str)]
        media = (
            PromptMedia(patches, grid, isinstance(part, Video))
            for part, patches, grid in zip(parts, rendered.patches, rendered.grids, strict=True)
        )
        return TokenizedPrompt(torch.cat([ids, ids.new_tensor(self.generation_prompt)]), tuple(media))

    def _tokens(self, rendered: RenderedChat) -> _Tokens:
        """Raises ValueError as `_tokenize` does."""
        key = (
            rendered.text,
            bytes(rendered.loss_mask),
            rendered.template_text,
            tuple(rendered.pad_sizes),
            rendered.prompt_len,
        )
        if key not in self._cache:
            tokens = self._tokenize(rendered)
            if len(tokens.ids) > MAX_CACHED_TOKENS:
                return tokens
            if len(self._cache) == CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = tokens
        return self._cache[key]

    def _tokenize(self, rendered: RenderedChat) -> _Tokens:
        """Raises ValueError for texts that hold special tokens of media or messages, and for unpaired surrogates."""
        rendered.text.encode()  # The tokenizer's own error does not name the character.
        encoded = self.tokenizer(rendered.text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        for name, token in self.special.items():
            if ids.count(token) != rendered.template_text.count(name):
                raise ValueError(f"a text holds the token {name}")
        pads = {self.special[name] for name in PADS}
        builder, pad_sizes = _TokenBuilder(), iter(rendered.pad_sizes)
        for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
            if token in pads:
                builder.add_vision(token, *next(pad_sizes))
            else:
                builder.add_text(token, learned=any(rendered.loss_mask[start:end]))
            if start < rendered.prompt_len:
                builder.prompt_len = len(builder.ids)
        return builder.build()
