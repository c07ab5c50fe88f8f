"""A dialog as tokens, labels, positions and patches.

See docs/models/reasoner.md, Labels; docs/models/reasoner.md, Position ids.

The text is encoded as a whole, as the template's would be, so that tokens may join the texts of a turn with each other
and with what the template puts around them. One that belongs in part to what the assistant says, such as the line
break of its header together with one that begins the answer, is learned.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from attrs import field, frozen

from cosmos_core.data import Chat, UnreadableSample, Video
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.script import Grid, Script, script_of
from cosmos_vlm.tokenizer import SPECIAL

__all__ = ["IGNORED", "Dialog", "DialogEncoder"]

IGNORED = -100
PADS = ("<|image_pad|>", "<|video_pad|>")
REMEMBERED, SHORT = 256, 2048
"""How many texts an encoder remembers, and up to how many tokens: the same question is asked of clip after clip."""


@frozen(eq=False)
class Dialog:
    """ids, labels: int64 [n]; labels are IGNORED where nothing is learned. positions: int64 [3, n], time, row, column.

    patches: uint8 [p, 1536]. grids: (t, h, w) in patches of each picture or clip, in order of appearance. answer:
    what the assistant says last; asked: tokens before that turn; shown: how many of `grids` stand before it. clips:
    whether it shows a video. seen: int64 [v], which tokens stand for vision.
    """

    key: str
    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: tuple[Grid, ...]
    asked: int
    answer: str
    shown: int = 0
    clips: bool = False
    seen: torch.Tensor = field(factory=lambda: torch.zeros(0, dtype=torch.int64))

    @property
    def kind(self) -> str:
        """'image', 'video' or 'text': what the pool packer keeps apart."""
        return ("video" if self.clips else "image") if self.grids else "text"

    @property
    def supervised(self) -> int:
        """Positions that are learned."""
        return int((self.labels != IGNORED).sum())


@frozen(eq=False)
class _Tokens:
    """The part of a Dialog that its text and the sizes of what it shows determine; shared by equal ones."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    seen: torch.Tensor
    asked: int


class _Writer:
    """Collects tokens with their labels and positions. asked: of those written, how many stand before the last turn."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.positions: list[tuple[int, int, int]] = []
        self.seen: list[int] = []
        self.next = 0
        self.asked = 0

    def text(self, token: int, *, learned: bool) -> None:
        self.ids.append(token)
        self.labels.append(token if learned else IGNORED)
        self.positions.append((self.next,) * 3)
        self.next += 1

    def slice(self, token: int, rows: int, columns: int) -> None:
        """One temporal slice of vision: rows x columns tokens that share a time."""
        self.seen += range(len(self.ids), len(self.ids) + rows * columns)
        self.ids += [token] * rows * columns
        self.labels += [IGNORED] * rows * columns
        places = product(range(rows), range(columns))
        self.positions += [(self.next, self.next + row, self.next + column) for row, column in places]
        self.next += max(rows, columns)

    def written(self) -> _Tokens:
        """What was collected."""
        return _Tokens(
            ids=torch.tensor(self.ids),
            labels=torch.tensor(self.labels),
            positions=torch.from_numpy(np.array(self.positions, np.int64).T.copy()),
            seen=torch.tensor(self.seen, dtype=torch.int64),
            asked=self.asked,
        )


class DialogEncoder:
    """Holds a tokenizer; picklable for loader workers. opening: tokens that begin the assistant's turn."""

    def __init__(self, tokenizer: Any, config: VlmConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
        self.opening: list[int] = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
        self._remembered: dict[Any, _Tokens] = {}

    def encode(self, chat: Chat) -> Dialog:
        """Raises UnreadableSample for unknown roles, for shapes the tower cannot take, for texts that hold the tokens
        of pictures or turns, and when nothing is learned.
        """
        try:
            script = script_of(chat, self.config)
            tokens = self._tokens(script)
        except ValueError as error:
            raise UnreadableSample(chat.key, str(error)) from None
        dialog = Dialog(
            key=chat.key,
            ids=tokens.ids,
            labels=tokens.labels,
            positions=tokens.positions,
            patches=torch.cat(script.patches) if script.patches else torch.zeros(0, 1536, dtype=torch.uint8),
            grids=tuple(script.grids),
            asked=tokens.asked,
            answer=script.answer,
            shown=script.shown,
            clips=any(isinstance(part, Video) for turn in chat.messages for part in turn.content),
            seen=tokens.seen,
        )
        if not dialog.supervised:
            raise UnreadableSample(chat.key, "the assistant says nothing")
        return dialog

    def _tokens(self, script: Script) -> _Tokens:
        """Raises ValueError as `_encoded` does."""
        key = (script.text, bytes(script.learned), script.frame, tuple(script.slices), script.asked)
        if key not in self._remembered:
            tokens = self._encoded(script)
            if len(tokens.ids) > SHORT:
                return tokens
            if len(self._remembered) == REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = tokens
        return self._remembered[key]

    def _encoded(self, script: Script) -> _Tokens:
        """Raises ValueError for tokens that would pass for a picture or end the turn, and for half surrogate pairs."""
        script.text.encode()  # The tokenizer's own complaint does not say what is wrong.
        encoded = self.tokenizer(script.text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        for name, token in self.special.items():
            if ids.count(token) != script.frame.count(name):
                raise ValueError(f"a text holds the token {name}")
        pads = {self.special[name] for name in PADS}
        writer, slices = _Writer(), iter(script.slices)
        for token, (start, end) in zip(ids, encoded["offset_mapping"], strict=True):
            if token in pads:
                writer.slice(token, *next(slices))
            else:
                writer.text(token, learned=any(script.learned[start:end]))
            if start < script.asked:
                writer.asked = len(writer.ids)
        return writer.written()
