"""Greedy packing of a stream of samples into micro-batches (docs/data.md, Greedy packing)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cosmos_core.data.samples import Item

__all__ = ["LOOKAHEAD", "PreparedSample", "pack_stream"]

LOOKAHEAD = 10
"""Samples that may be held back before a micro-batch is complete."""


@dataclass(frozen=True, slots=True)
class PreparedSample:
    """A prepared sample to be packed. key: its name in messages. kind: the pool packer packs one kind together."""

    item: Item
    num_tokens: int
    key: str
    kind: str = ""


def pack_stream(
    stream: Iterator[PreparedSample],
    *,
    max_samples: int | None,
    max_tokens: int | None,
) -> Iterator[tuple[list[Item], list[int], int]]:
    """Micro-batches, each with the positions held back for the next ones, in order, and its number of tokens.

    A sample is added when the sum stays strictly below `max_tokens`, as each sample alone is; one that does not fit is
    first in line for the next batch.
    """
    waiting: deque[PreparedSample] = deque()
    while True:
        batch: list[Item] = []
        aside: list[PreparedSample] = []
        used = 0
        while not (batch and len(aside) >= LOOKAHEAD) and len(batch) != max_samples:
            sample = waiting.popleft() if waiting else next(stream, None)
            if sample is None:
                break
            if not batch or max_tokens is None or used + sample.num_tokens < max_tokens:
                batch.append(sample.item)
                used += sample.num_tokens
            else:
                aside.append(sample)
        waiting.extendleft(reversed(aside))
        if not batch:
            return
        yield batch, [sample.item.position for sample in waiting], used
