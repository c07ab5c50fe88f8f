"""In which order blocks of rows are read: shuffled, and so that each reader needs few blocks at a time.

Blocks (row groups of a Parquet file) are dealt out to lanes. Place p of the epoch is the lane p mod lanes's next row,
so that ranks and workers, which take places in turn, stay in lanes of their own as long as their number divides that
of the lanes. Within a lane rows are shuffled among a few neighbouring blocks. All of it follows from the generator, so
a place in the epoch is all that resuming needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["arranged", "blocks_a_window"]

Rows = np.ndarray[Any, np.dtype[np.int64]]


def blocks_a_window(sizes: Sequence[int], lanes: int, buffer: int) -> int:
    """Neighbouring blocks of a lane whose rows are shuffled together, for about `buffer` rows over all lanes."""
    rows = max(1.0, sum(sizes) / len(sizes))
    return max(1, round(buffer / (lanes * rows)))


def arranged(sizes: Sequence[int], lanes: int, buffer: int, random: np.random.Generator) -> Rows:
    """A permutation of all rows; block i holds rows sum(sizes[:i]) to sum(sizes[:i + 1])."""
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    count = min(lanes, len(sizes))
    dealt = _dealt(sizes, count, random)
    width = blocks_a_window(sizes, count, buffer)
    streams = [np.concatenate(list(_shuffled(blocks, starts, width, random))) for blocks in dealt]
    return _interleaved(streams)


def _dealt(sizes: Sequence[int], lanes: int, random: np.random.Generator) -> list[list[int]]:
    """Blocks of each lane, in a drawn order; each block goes to the lane with the fewest rows so far."""
    dealt: list[list[int]] = [[] for _ in range(lanes)]
    rows = np.zeros(lanes, np.int64)
    for block in random.permutation(len(sizes)).tolist():
        shortest = int(rows.argmin())
        dealt[shortest].append(block)
        rows[shortest] += max(sizes[block], 1)
    return dealt


def _shuffled(blocks: Sequence[int], starts: Rows, width: int, random: np.random.Generator) -> Iterator[Rows]:
    for first in range(0, len(blocks), width):
        window = [np.arange(starts[block], starts[block + 1]) for block in blocks[first : first + width]]
        yield random.permutation(np.concatenate(window))


def _interleaved(streams: Sequence[Rows]) -> Rows:
    """One row of each lane by turns, until all are used up."""
    places = [np.arange(len(stream)) * len(streams) + lane for lane, stream in enumerate(streams)]
    order = np.argsort(np.concatenate(places), kind="stable")
    found: Rows = np.concatenate(streams)[order]
    return found
