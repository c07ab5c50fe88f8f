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
from cosmos_core.hub import OutsidePath, find_media
from cosmos_core.names import text_fault
from cosmos_vlm.config import LlavaConfig
from cosmos_vlm.data.local import local_copy
from cosmos_vlm.data.shards import blocks_per_window, windowed_shuffle
from cosmos_vlm.data.subset import streamed_files
from cosmos_vlm.data.tables import Block, block_sizes, read_block

__all__ = ["LlavaSource", "messages_of"]

logger = logging.getLogger(__name__)

IMAGE_ERRORS = (
    *(OSError, EOFError, KeyError, TypeError, ValueError, SyntaxError, RuntimeError),
    *(struct.error, PIL.Image.DecompressionBombError),
)
"""What Pillow raises for files that are not images, and for images too large for memory."""
ROLES = {"human": "user", "user": "user", "system": "system"}
"""Role of each speaker; any other speaker is the assistant (docs/data.md, LLaVA-OneVision)."""
OUTSIDE = "image lies outside of the dataset's folder and dataset.media_roots"
READERS = 16
"""Files whose sizes are read at a time."""
EVICTION_FACTOR = 16
"""A block is evicted when it was not used for so many times the samples of its window over all shards."""


class LlavaSource(MapSource):
    """Chat records over blocks of rows. A block is read with its first row and cached while the order stays near it."""

    def __init__(self, config: LlavaConfig) -> None:
        self._config = config
        self._copy = local_copy(config.path, config.subset) if config.path else None
        files = self._copy.files if self._copy is not None else streamed_files(config)
        with ThreadPoolExecutor(READERS) as pool:
            sizes = list(pool.map(block_sizes, files))
        blocks = [
            ((file, number), size)
            for file, file_sizes in zip(files, sizes, strict=True)
            for number, size in enumerate(file_sizes)
        ]
        if config.limit is not None:
            blocks = _first_rows(blocks, config.limit)
        self._blocks = [place for place, _ in blocks]
        self._sizes = [size for _, size in blocks]
        if not sum(self._sizes):
            raise UserError(f"no rows in {config.path or config.subset}; nothing was started")
        self._ends = list(accumulate(self._sizes))
        logger.info("llava_ov: %s in %d files", self.fingerprint, len(files))
        shards = min(config.lanes, len(self._sizes))
        self._evict_after = EVICTION_FACTOR * shards * blocks_per_window(self._sizes, shards, config.shuffle_buffer)
        self._cache: dict[int, tuple[int, Block]] = {}
        self._reads = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without the cached blocks, for loader workers."""
        return {**self.__dict__, "_cache": {}}

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def fingerprint(self) -> str:
        """Files, rows, and the settings that determine the order of an epoch."""
        layout = sha256(repr([(Path(file).name, number) for file, number in self._blocks] + self._sizes).encode())
        place = self._blocks[0][0].rpartition("/")[0] if self._copy is None else "a local copy"
        order = f"lanes {self._config.lanes}, shuffle_buffer {self._config.shuffle_buffer}"
        return f"{len(self)} rows of {place} ({layout.hexdigest()[:12]}, {order})"

    def epoch_permutation(self, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.int64]]:
        """A windowed shuffle, which reads each block about once."""
        return windowed_shuffle(self._sizes, self._config.lanes, self._config.shuffle_buffer, random)

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Row `index`.

        Raises UnreadableSample for rows without image or answer, UserError for files that cannot be read.
        """
        number = bisect_right(self._ends, index)
        row = self._block(number)(index - (self._ends[number - 1] if number else 0))
        key = str(row.get("id") or index)
        if fault := text_fault(key):
            raise UnreadableSample(f"row {index}", f"its id {fault}")
        conversation = row.get("conversations")
        if row.get("image") is None:
            raise UnreadableSample(key, "no image")
        if not isinstance(conversation, list) or len(conversation) < 2:
            raise UnreadableSample(key, "fewer than two turns")
        return Chat(key, messages_of(conversation, self._image(row["image"], key), key))

    def _block(self, number: int) -> Block:
        """Block `number`, from the cache if it is there; evicts the blocks that were not used lately."""
        self._reads += 1
        block = self._cache.pop(number)[1] if number in self._cache else read_block(*self._blocks[number])
        self._cache[number] = self._reads, block
        while self._reads - next(iter(self._cache.values()))[0] > self._evict_after:
            del self._cache[next(iter(self._cache))]
        return block

    def _image(self, stored: Mapping[str, Any] | str, key: str) -> Image:
        try:
            with PIL.Image.open(self._file(stored, key)) as image:
                pixels = np.asarray(image.convert("RGB"))
        except IMAGE_ERRORS as error:
            raise UnreadableSample(key, f"image cannot be read ({type(error).__name__})") from None
        return Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))

    def _file(self, stored: Mapping[str, Any] | str, key: str) -> Path | io.BytesIO:
        """Embedded bytes, or a file of a local copy. Raises UnreadableSample for a file outside its folder."""
        if not isinstance(stored, str):
            return io.BytesIO(stored["bytes"])
        if self._copy is None:
            raise UnreadableSample(key, "image is not embedded")
        found = self._copy.find(stored)
        try:
            return find_media(str(found), found.parent, self._copy.root, self._config.media_roots)
        except OutsidePath as error:
            raise UnreadableSample(f"{key} ({error})", OUTSIDE) from None


def _first_rows(blocks: list[tuple[tuple[str, int], int]], limit: int) -> list[tuple[tuple[str, int], int]]:
    """The blocks that hold the first `limit` rows, with their sizes; the last size is cut."""
    ends = accumulate(size for _, size in blocks)
    cut = [(place, min(size, limit - (end - size))) for (place, size), end in zip(blocks, ends, strict=True)]
    return [(place, size) for place, size in cut if size > 0]


def messages_of(conversation: list[dict[str, str]], image: Image, key: str) -> tuple[Message, ...]:
    """Messages of a ShareGPT conversation. The image comes before the first user text, wherever its marker is.

    Raises UnreadableSample for turns without speaker or text, and when no turn is the user's.
    """
    messages: list[Message] = []
    has_image = False
    for turn in conversation:
        speaker, text = (turn.get("from"), turn.get("value")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(speaker, str) or not isinstance(text, str):
            raise UnreadableSample(key, "a turn has no speaker or no text")
        role = ROLES.get(speaker, "assistant")
        text = text.replace("<image>", "").strip()
        first_question = role == "user" and not has_image
        has_image = has_image or first_question
        messages.append(Message(role, (image, text) if first_question else (text,)))
    if not has_image:
        raise UnreadableSample(key, "no turn is the user's")
    return tuple(messages)
