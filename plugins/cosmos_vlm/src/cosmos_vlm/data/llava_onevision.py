"""LLaVA-OneVision: images with conversations, streamed or local (docs/data.md, LLaVA-OneVision)."""

from __future__ import annotations

import io
import logging
import struct
from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from cosmos_core.data import Chat, Image, MapSource, Message, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_core.hub import contained
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.lanes import arranged, blocks_a_window
from cosmos_vlm.data.local import local_copy
from cosmos_vlm.data.subset import streamed_files
from cosmos_vlm.data.tables import Block, block_sizes, read_block

__all__ = ["LlavaSource", "turns_of"]

logger = logging.getLogger(__name__)

BROKEN = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, SyntaxError, RuntimeError),
    *(struct.error, PIL.Image.DecompressionBombError),
)
"""What Pillow raises for what is no picture, and for one that would fill the memory."""
ROLES = {"human": "user", "user": "user", "system": "system"}
"""Of speakers; any other is the assistant (docs/data.md, LLaVA-OneVision)."""
READERS = 16
"""Files whose sizes are asked for at a time."""
PATIENCE = 16
"""A block is let go when it was not used for so many times the samples that its neighbours in the order take."""


class LlavaSource(MapSource):
    """Chat records over blocks of rows, which are read when the first of their rows is wanted, and let go when
    the order has moved on."""

    def __init__(self, config: LlavaConfig) -> None:
        self._config = config
        self._copy = local_copy(config.path, config.subset) if config.path else None
        files = self._copy.files if self._copy is not None else streamed_files(config)
        with ThreadPoolExecutor(READERS) as pool:
            sizes = list(pool.map(block_sizes, files))
        blocks = [
            ((file, number), size)
            for file, of_file in zip(files, sizes, strict=True)
            for number, size in enumerate(of_file)
        ]
        if config.limit is not None:
            blocks = _first_rows(blocks, config.limit)
        self._blocks = [place for place, _ in blocks]
        self._sizes = [size for _, size in blocks]
        if not sum(self._sizes):
            raise UserError(f"no rows in {config.path or config.subset}; nothing was started")
        self._ends = list(accumulate(self._sizes))
        logger.info("llava_ov: %s in %d files", self.fingerprint, len(files))
        lanes = min(config.lanes, len(self._sizes))
        self._patience = PATIENCE * lanes * blocks_a_window(self._sizes, lanes, config.shuffle_buffer)
        self._held: dict[int, tuple[int, Block]] = {}
        self._asked = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the rows in hand, for loader workers."""
        return {**self.__dict__, "_held": {}}

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def fingerprint(self) -> str:
        """Files, rows, and what the order of an epoch follows from."""
        layout = sha256(repr([(Path(file).name, number) for file, number in self._blocks] + self._sizes).encode())
        place = self._blocks[0][0].rpartition("/")[0] if self._copy is None else "a local copy"
        order = f"lanes {self._config.lanes}, shuffle_buffer {self._config.shuffle_buffer}"
        return f"{len(self)} rows of {place} ({layout.hexdigest()[:12]}, {order})"

    def epoch_permutation(self, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Shuffled, and readable as a stream."""
        return arranged(self._sizes, self._config.lanes, self._config.shuffle_buffer, random)

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Row `index`. Raises UnreadableSample for rows without picture or answer, UserError when files cannot be
        read any more."""
        number = bisect_right(self._ends, index)
        row = self._block(number)(index - (self._ends[number - 1] if number else 0))
        key = str(row.get("id") or index)
        turns = row.get("conversations")
        if row.get("image") is None:
            raise UnreadableSample(key, "no image")
        if not isinstance(turns, list) or len(turns) < 2:
            raise UnreadableSample(key, "fewer than two turns")
        return Chat(key, turns_of(turns, self._picture(row["image"], key), key))

    def _block(self, number: int) -> Block:
        self._asked += 1
        block = self._held.pop(number)[1] if number in self._held else read_block(*self._blocks[number])
        self._held[number] = self._asked, block
        while self._asked - next(iter(self._held.values()))[0] > self._patience:
            del self._held[next(iter(self._held))]
        return block

    def _picture(self, stored: Mapping[str, Any] | str, key: str) -> Image:
        try:
            with PIL.Image.open(self._file(stored, key)) as image:
                pixels = np.asarray(image.convert("RGB"))
        except BROKEN as error:
            raise UnreadableSample(key, f"image cannot be read ({type(error).__name__})") from None
        return Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))

    def _file(self, stored: Mapping[str, Any] | str, key: str) -> Path | io.BytesIO:
        """Embedded bytes, or a file of a local copy. Raises UnreadableSample for one outside of its folder."""
        if not isinstance(stored, str):
            return io.BytesIO(stored["bytes"])
        if self._copy is None:
            raise UnreadableSample(key, "image is not embedded")
        try:
            return contained(self._copy.find(stored), self._copy.root)
        except ValueError:
            raise UnreadableSample(key, "image lies outside of the dataset's folder") from None


def _first_rows(blocks: list[tuple[tuple[str, int], int]], limit: int) -> list[tuple[tuple[str, int], int]]:
    """Places and sizes of the blocks that hold the first `limit` rows, the last one's size cut."""
    ends = accumulate(size for _, size in blocks)
    cut = [(place, min(size, limit - (end - size))) for (place, size), end in zip(blocks, ends, strict=True)]
    return [(place, size) for place, size in cut if size > 0]


def turns_of(conversation: list[dict[str, str]], picture: Image, key: str) -> tuple[Message, ...]:
    """ShareGPT turns as ours; the picture stands before the first user turn's text, wherever its marker stood.

    Raises UnreadableSample for turns without speaker or text, and when nobody asks.
    """
    turns: list[Message] = []
    asked = False
    for said in conversation:
        speaker, text = (said.get("from"), said.get("value")) if isinstance(said, Mapping) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise UnreadableSample(key, "a turn has no speaker or no text")
        role = ROLES.get(speaker, "assistant")
        text = text.replace("<image>", "").strip()
        first = role == "user" and not asked
        asked = asked or first
        turns.append(Message(role, (picture, text) if first else (text,)))
    if not asked:
        raise UnreadableSample(key, "no turn is the user's")
    return tuple(turns)
