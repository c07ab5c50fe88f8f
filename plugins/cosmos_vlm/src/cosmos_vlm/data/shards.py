"""The order in which rows are read: a windowed shuffle over shards, so that each reader needs few blocks at a time.

Blocks (row groups of a Parquet file) are dealt out to shards. Sample i of the epoch is the next row of shard
i mod (number of shards). Ranks and workers take samples in turn, so each keeps to its own shards while ranks x workers
divides the number of shards. Within a shard, rows are shuffled among a few neighbouring blocks. The order follows from
the generator alone, so resuming needs only a position in the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["blocks_per_window", "windowed_shuffle"]

Rows = np.ndarray[Any, np.dtype[np.int64]]


def blocks_per_window(sizes: Sequence[int], shards: int, buffer_size: int) -> int:
    """Neighbouring blocks of a shard that are shuffled together, for about `buffer_size` rows over all shards."""
    rows = max(1.0, sum(sizes) / len(sizes))
    return max(1, round(buffer_size / (shards * rows)))


def windowed_shuffle(sizes: Sequence[int], shards: int, buffer_size: int, random: np.random.Generator) -> Rows:
    """A permutation of all rows; block i holds rows sum(sizes[:i]) to sum(sizes[:i + 1])."""
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    shards = min(shards, len(sizes))
    blocks_of = _assign(sizes, shards, random)
    width = blocks_per_window(sizes, shards, buffer_size)
    streams = [np.concatenate(list(_windows(blocks, starts, width, random))) for blocks in blocks_of]
    return _interleave(streams)


def _assign(sizes: Sequence[int], shards: int, random: np.random.Generator) -> list[list[int]]:
    """Blocks of each shard, in random order; each block goes to the shard with the fewest rows so far."""
    blocks_of: list[list[int]] = [[] for _ in range(shards)]
    rows = np.zeros(shards, np.int64)
    for block in random.permutation(len(sizes)).tolist():
        smallest = int(rows.argmin())
        blocks_of[smallest].append(block)
        rows[smallest] += max(sizes[block], 1)
    return blocks_of


def _windows(blocks: Sequence[int], starts: Rows, width: int, random: np.random.Generator) -> Iterator[Rows]:
    """Shuffled rows of `width` blocks at a time."""
    for first in range(0, len(blocks), width):
        window = [np.arange(starts[block], starts[block + 1]) for block in blocks[first : first + width]]
        yield random.permutation(np.concatenate(window))


def _interleave(streams: Sequence[Rows]) -> Rows:
    """One row of each shard in turn, until all are used up."""
    slots = [np.arange(len(stream)) * len(streams) + shard for shard, stream in enumerate(streams)]
    order = np.argsort(np.concatenate(slots), kind="stable")
    interleaved: Rows = np.concatenate(streams)[order]
    return interleaved
