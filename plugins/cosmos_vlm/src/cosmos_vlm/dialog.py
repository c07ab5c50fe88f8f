"""A dialog as tokens, labels, positions and patches (spec/vlm.md 4.1, 5.1, 6.1)."""

from __future__ import annotations

from typing import Any

import torch
from attrs import frozen

from cosmos_core.data import Chat, Clip, Picture, UnreadableSample
from cosmos_vlm.config import VlmConfig
from cosmos_vlm.tokenizer import SPECIAL
from cosmos_vlm.vision import MERGE, fit_image, fit_video, patches_of

__all__ = ["IGNORED", "Dialog", "DialogEncoder"]

IGNORED = -100
ROLES = ("system", "user", "assistant")


@frozen(eq=False)
class Dialog:
    """ids, labels: int64 [n]; labels are IGNORED where nothing is learned. positions: int64 [3, n], time, row, column.

    patches: uint8 [p, 1536]. grids: (t, h, w) in patches of each picture or clip, in order of appearance. answer:
    what the assistant says last; asked: tokens before it. clips: whether it shows a video.
    """

    key: str
    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    patches: torch.Tensor
    grids: tuple[tuple[int, int, int], ...]
    asked: int
    answer: str
    clips: bool = False

    @property
    def kind(self) -> str:
        """'image', 'video' or 'text': what the pool packer keeps apart."""
        return ("video" if self.clips else "image") if self.grids else "text"

    @property
    def supervised(self) -> int:
        """Positions that are learned."""
        return int((self.labels != IGNORED).sum())


class _Writer:
    """Collects tokens with their labels and positions."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.labels: list[int] = []
        self.positions: list[tuple[int, int, int]] = []
        self.next = 0

    def text(self, ids: list[int], learned: bool) -> None:
        for token in ids:
            self.ids.append(token)
            self.labels.append(token if learned else IGNORED)
            self.positions.append((self.next,) * 3)
            self.next += 1

    def slice(self, token: int, rows: int, columns: int) -> None:
        """One temporal slice of vision: rows x columns tokens that share a time."""
        for row in range(rows):
            for column in range(columns):
                self.ids.append(token)
                self.labels.append(IGNORED)
                self.positions.append((self.next, self.next + row, self.next + column))
        self.next += max(rows, columns)


class DialogEncoder:
    """Holds a tokenizer; picklable for loader workers."""

    def __init__(self, tokenizer: Any, config: VlmConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.special = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}

    def encode(self, chat: Chat) -> Dialog:
        """Raises UnreadableSample for unknown roles, for shapes the tower cannot take, for texts that hold the tokens
        of pictures or turns, and when nothing is learned.
        """
        writer, patches, grids = _Writer(), [], []
        asked, answer = 0, ""
        for turn in chat.turns:
            if turn.role not in ROLES:
                raise UnreadableSample(chat.key, f"unknown role '{turn.role}'")
            learned = turn.role == "assistant"
            writer.text([self.special["<|im_start|>"], *self._text(f"{turn.role}\n")], learned=False)
            if learned:
                asked, answer = len(writer.ids), "".join(part for part in turn.parts if isinstance(part, str))
            for part in turn.parts:
                try:
                    if isinstance(part, str):
                        writer.text(self._said(part), learned)
                        continue
                    rows, grid = self._media(part, writer)
                except ValueError as error:
                    raise UnreadableSample(chat.key, str(error)) from None
                patches.append(rows)
                grids.append(grid)
            writer.text([self.special["<|im_end|>"]], learned)
            writer.text(self._text("\n"), learned=False)
        dialog = Dialog(
            key=chat.key,
            ids=torch.tensor(writer.ids),
            labels=torch.tensor(writer.labels),
            positions=torch.tensor(writer.positions).T.contiguous(),
            patches=torch.cat(patches) if patches else torch.zeros(0, 1536, dtype=torch.uint8),
            grids=tuple(grids),
            asked=asked,
            answer=answer,
            clips=any(isinstance(part, Clip) for turn in chat.turns for part in turn.parts),
        )
        if not dialog.supervised:
            raise UnreadableSample(chat.key, "the assistant says nothing")
        return dialog

    def _said(self, text: str) -> list[int]:
        """Raises ValueError for tokens that would pass for a picture or end the turn."""
        ids = self._text(text)
        for name, token in self.special.items():
            if token in ids:
                raise ValueError(f"a text holds the token {name}")
        return ids

    def _text(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def _media(self, part: Picture | Clip, writer: _Writer) -> tuple[torch.Tensor, tuple[int, int, int]]:
        config, special = self.config, self.special
        if isinstance(part, Picture):
            _, height, width = part.pixels.shape
            size = fit_image(height, width, config.image_min_pixels, config.image_max_pixels)
            rows, grid = patches_of(part.pixels[None].expand(2, -1, -1, -1), size)
            writer.text([special["<|vision_start|>"]], learned=False)
            writer.slice(special["<|image_pad|>"], grid[1] // MERGE, grid[2] // MERGE)
            writer.text([special["<|vision_end|>"]], learned=False)
            return rows, grid
        frames, seconds = part.pixels.transpose(0, 1), list(part.seconds)
        if len(frames) == 1:
            frames, seconds = frames.expand(2, -1, -1, -1), seconds * 2
        count, _, height, width = frames.shape
        size = fit_video(count, height, width, config.video_min_pixels, config.video_max_pixels)
        rows, grid = patches_of(frames, size)
        seconds += seconds[-1:] * (2 * grid[0] - len(seconds))
        for index in range(grid[0]):
            middle = (seconds[2 * index] + seconds[2 * index + 1]) / 2
            writer.text([*self._text(f"<{middle:.1f} seconds>"), special["<|vision_start|>"]], learned=False)
            writer.slice(special["<|video_pad|>"], grid[1] // MERGE, grid[2] // MERGE)
            writer.text([special["<|vision_end|>"]], learned=False)
        return rows, grid
