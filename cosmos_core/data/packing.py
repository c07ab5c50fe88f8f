"""Greedy packing of a stream of samples into micro-batches (docs/data.md, Greedy packing)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from cosmos_core.data.samples import Item

__all__ = ["LOOKAHEAD", "pack_stream"]

LOOKAHEAD = 10
"""Samples that may be held back before a micro-batch is complete."""


def pack_stream(
    stream: Iterator[Item], *, max_samples: int | None, max_tokens: int | None
) -> Iterator[tuple[list[Item], list[int], int]]:
    """Micro-batches, each with the positions held back for the next ones, in order, and its number of tokens.

    A sample is added when the sum stays strictly below `max_tokens`, as each sample alone is; one that does not fit is
    first in line for the next batch.
    """
    waiting: deque[Item] = deque()
    while True:
        batch: list[Item] = []
        aside: list[Item] = []
        used = 0
        while not (batch and len(aside) >= LOOKAHEAD) and len(batch) != max_samples:
            item = waiting.popleft() if waiting else next(stream, None)
            if item is None:
                break
            if not batch or max_tokens is None or used + item.num_tokens < max_tokens:
                batch.append(item)
                used += item.num_tokens
            else:
                aside.append(item)
        waiting.extendleft(reversed(aside))
        if not batch:
            return
        yield batch, [item.position for item in waiting], used
