"""Rows of dialogs in files, streamed or local: blocks, their order, and which row is where."""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from attrs import evolve

from cosmos_core.config import TypicalSample
from cosmos_core.data import Chat, MapSource, UnreadableSample
from cosmos_core.data.chat import MediaReader, dimensions_of_row, to_chat
from cosmos_core.data.source import described
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted, text_fault
from cosmos_vlm.config import RowsConfig
from cosmos_vlm.data.local import local_copy
from cosmos_vlm.data.shards import blocks_per_window, windowed_shuffle
from cosmos_vlm.data.subset import repository_of, streamed_files
from cosmos_vlm.data.tables import Block, block_sizes, place_of, read_block

__all__ = ["RowsSource", "dialog_id"]

logger = logging.getLogger(__name__)

READERS = 16
"""Files whose sizes are read at a time."""
EVICTION_FACTOR = 16
"""A block is evicted when it was not used for so many times the samples of its window over all shards."""


class RowsSource(MapSource):
    """Chat records over blocks of rows. A block is read with its first row and cached while the order stays near it.

    media: opens the images and videos that rows name, where all files of rows look for them.
    """

    def __init__(self, config: RowsConfig, *, target_fps: float = 2.0, max_frames: int = 32) -> None:
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
            raise UserError(f"no rows in {config.path or config.subset or config.repo}; nothing was started")
        self._ends = list(accumulate(self._sizes))
        logger.info("%s: %s in %s", config.type, described(self), counted(len(files), "file"))
        shards = min(config.lanes, len(self._sizes))
        self._evict_after = EVICTION_FACTOR * shards * blocks_per_window(self._sizes, shards, config.shuffle_buffer)
        self.media = MediaReader(target_fps=target_fps, max_frames=max_frames, media_roots=config.media_roots)
        if self._copy is None:
            self.media = evolve(self.media, repository=repository_of(config.repo or "", files[0]))
        else:
            self.media = evolve(self.media, root=self._copy.root, folders=self._copy.folders)
        self._cache: dict[int, tuple[int, Block]] = {}
        self._reads = 0
        self._newest: tuple[int, tuple[Mapping[str, Any], str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the cached blocks, for loader workers."""
        return {**self.__dict__, "_cache": {}, "_newest": None}

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

    def chat(self, row: Mapping[str, Any], key: str, where: str, media: MediaReader) -> Chat:
        """The dialog of a row in any of the usual forms, whose media `media` opens. Raises UnreadableSample."""
        return to_chat(row, key, where, media)

    def key(self, index: int) -> str:
        """The row's id, or its number."""
        return _name(self._row(index)[0], index)

    def get(self, index: int, random: np.random.Generator) -> Chat:
        """Row `index`. Raises UnreadableSample, and UserError for files that cannot be read."""
        row, place = self._row(index)
        key = _name(row, index)
        if fault := text_fault(key):
            raise UnreadableSample(f"row {index} ({place})", f"its id {fault}")
        return self.chat(row, key, f"{key} ({place})", self._media_of(index))

    def dimensions(self, index: int) -> TypicalSample | None:
        """Of row `index` of a local copy; None of one that is streamed."""
        if self._copy is None:
            return None
        row, place = self._row(index)
        for older in list(self._cache)[:-1]:
            del self._cache[older]  # The process that asks goes on to train, and its workers read for themselves.
        return dimensions_of_row(row, f"row {index} ({place})", self._media_of(index))

    def identity(self, index: int) -> str:
        """The row's id, or a digest of its content. Raises UserError for files that cannot be read."""
        row, _ = self._row(index)
        return dialog_id(row) or json.dumps(row, sort_keys=True, default=_digest)

    def _media_of(self, index: int) -> MediaReader:
        """Looks in the folder of the row's own file first."""
        if self._copy is None:
            return self.media
        file, _ = self._blocks[bisect_right(self._ends, index)]
        return evolve(self.media, folders=(Path(file).parent, *self.media.folders))

    def _row(self, index: int) -> tuple[Mapping[str, Any], str]:
        """The row, and its file and line. The newest is kept, since a sample's identity and content are both asked."""
        if self._newest is None or self._newest[0] != index:
            self._newest = index, self._read_row(index)
        return self._newest[1]

    def _read_row(self, index: int) -> tuple[Mapping[str, Any], str]:
        number = bisect_right(self._ends, index)
        offset = index - (self._ends[number - 1] if number else 0)
        try:
            return self._block(number)(offset), place_of(*self._blocks[number], offset)
        except IndexError:
            hint = "leave the data as it is during a run; run the same command again"
            problem = Problem(message="has fewer rows than at the start", file=self._blocks[number][0], hint=hint)
            raise UserError("a file of rows changed while it was used", [problem]) from None

    def _block(self, number: int) -> Block:
        """Block `number`, from the cache if it is there; evicts the blocks that were not used lately."""
        self._reads += 1
        block = self._cache.pop(number)[1] if number in self._cache else read_block(*self._blocks[number])
        self._cache[number] = self._reads, block
        while self._reads - next(iter(self._cache.values()))[0] > self._evict_after:
            del self._cache[next(iter(self._cache))]
        return block


def _name(row: Mapping[str, Any], index: int) -> str:
    return dialog_id(row) or str(index)


def dialog_id(row: Mapping[str, Any]) -> str:
    """The id of a row that is a dialog; "" without one. 0 is an id."""
    value = row.get("id")
    return "" if value is None else str(value)


def _digest(value: Any) -> str:
    """What stands for a value that JSON does not have, such as an embedded image."""
    return sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def _first_rows(blocks: list[tuple[tuple[str, int], int]], limit: int) -> list[tuple[tuple[str, int], int]]:
    """The blocks that hold the first `limit` rows, with their sizes; the last size is cut."""
    ends = accumulate(size for _, size in blocks)
    cut = [(place, min(size, limit - (end - size))) for (place, size), end in zip(blocks, ends, strict=True)]
    return [(place, size) for place, size in cut if size > 0]
