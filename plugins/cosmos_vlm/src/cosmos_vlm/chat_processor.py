"""A dialog as tokens, labels, positions and patches.

See docs/models/reasoner.md, Labels; docs/models/reasoner.md, Position ids.

The rendered text is tokenized as a whole, so a token may span several texts of a message, or a text and the template
around it. A token that belongs in part to the assistant's text is learned, for example the line break of its header
joined with one that begins the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from attrs import frozen

from cosmos_core.data import Chat, UnreadableSample, Video
from cosmos_vlm.chat_template import RenderedChat, generation_prompt, render_chat
from cosmos_vlm.processor_files import PixelLimits
from cosmos_vlm.tokenizer import SPECIAL
from cosmos_vlm.vision import Grid

__all__ = ["IGNORE_INDEX", "PADS", "ChatProcessor", "PromptMedia", "TokenizedConversation", "TokenizedPrompt"]

IGNORE_INDEX = -100
PADS = ("<|image_pad|>", "<|video_pad|>")
CACHE_SIZE, MAX_CACHED_TOKENS = 256, 2048
"""How many texts a processor caches, and up to how many tokens each: many samples ask the same question."""


@frozen(eq=False)
class TokenizedConversation:
    """ids, labels: int64 [n]; labels are IGNORE_INDEX where nothing is learned.

    positions: int64 [3, n], time, row, column.

    patches: uint8 [r, 768], each of one frame. grids: (t, h, w) in patches of frame pairs of each image or video, in
    order of appearance; num_frames: of each, 1 for an image.

    prompt_len: tokens before the assistant's last message with text; num_prompt_media: how many of `grids` come before
    it; reference: its text. has_video: whether a video is among the media. visual_token_indices: int64 [v].
    """

    key: str
    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: tuple[Grid, ...]
    num_frames: tuple[int, ...]
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
    """An image or a video of a prompt. patches, grid, num_frames: as in TokenizedConversation."""

    patches: torch.Tensor
    grid: Grid
    num_frames: int
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
            patches=_joined(rendered.patches),
            grids=tuple(rendered.grids),
            num_frames=tuple(rendered.num_frames),
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
            PromptMedia(patches, grid, num_frames, isinstance(part, Video))
            for part, patches, grid, num_frames in zip(
                parts, rendered.patches, rendered.grids, rendered.num_frames, strict=True
            )
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
        pads = [self.special[name] for name in PADS]
        return _expanded(np.array(ids, np.int64), np.array(encoded["offset_mapping"], np.int64), pads, rendered)


def _expanded(
    tokens: np.ndarray[Any, Any], offsets: np.ndarray[Any, Any], pads: Sequence[int], rendered: RenderedChat
) -> _Tokens:
    """A pad becomes as many tokens as its image or frame pair has. tokens: int64 [m]; offsets: [m, 2], characters."""
    starts, ends = offsets.reshape(-1, 2).T
    is_pad = np.isin(tokens, pads)
    num_learned = np.append(0, np.asarray(rendered.loss_mask)).cumsum()
    labels = np.where(~is_pad & (num_learned[ends] > num_learned[starts]), tokens, IGNORE_INDEX)
    sizes = np.ones((len(tokens), 2), np.int64)
    sizes[is_pad] = np.reshape(rendered.pad_sizes, (-1, 2))
    counts, extents = sizes.prod(1), sizes.max(1)
    # Of each token that comes out: which one it comes from, and its place among those that come from it.
    origins = np.repeat(np.arange(len(tokens)), counts)
    places = np.arange(len(origins)) - (np.cumsum(counts) - counts)[origins]
    columns = sizes[origins, 1]
    first = (np.cumsum(extents) - extents)[origins]
    return _Tokens(
        ids=torch.from_numpy(tokens[origins]),
        labels=torch.from_numpy(labels[origins]),
        positions=torch.from_numpy(np.stack([first, first + places // columns, first + places % columns])),
        visual_token_indices=torch.from_numpy(is_pad[origins].nonzero()[0]),
        prompt_len=int(counts[starts < rendered.prompt_len].sum()),
    )


def _joined(patches: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of all images and videos; those of a single one are not copied."""
    return patches[0] if len(patches) == 1 else torch.cat([torch.zeros(0, 768, dtype=torch.uint8), *patches])
