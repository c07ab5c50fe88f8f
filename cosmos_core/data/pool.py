"""The pool packer of the reasoner recipes: samples of similar length from a pool share a micro-batch.

It counts a batch as a padded rectangle (longest x count), although our batches are concatenated without padding. See
docs/data.md, Pool packing.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from cosmos_core.config.run import DataloaderConfig, Pool
from cosmos_core.data.packing import pack_stream
from cosmos_core.data.samples import Item

__all__ = ["pack", "pool_stream"]

HALVED_FROM = 1000
"""A sample of at least this many tokens halves the budget of its batch."""


def pack(
    stream: Iterator[Item], config: DataloaderConfig, max_tokens: int | None
) -> Iterator[tuple[list[Item], list[int], int]]:
    """Micro-batches as `config` says: greedy ones, or from a pool."""
    most = config.max_samples_per_batch
    if config.packing == "pool":
        assert max_tokens is not None, "the configuration was checked"
        return pool_stream(stream, config.pool, max_samples=most, max_tokens=max_tokens)
    return pack_stream(stream, max_samples=most, max_tokens=max_tokens)


def pool_stream(
    stream: Iterator[Item], config: Pool, *, max_samples: int | None, max_tokens: int
) -> Iterator[tuple[list[Item], list[int], int]]:
    """Micro-batches as from `pack_stream`; a sample over the budget is a batch of its own and is never cut."""
    pool: list[Item] = []
    while True:
        pool += islice(stream, config.size - len(pool))
        if not pool:
            return
        batch = [pool.pop(0)]
        longest = batch[0].num_tokens
        if longest < config.long_threshold:
            while pool and len(batch) != max_samples:
                best = _best(pool, batch, longest, config, max_tokens)
                if best is None:
                    break
                batch.append(pool.pop(best))
                longest = max(longest, batch[-1].num_tokens)
        yield batch, [item.position for item in pool], sum(item.num_tokens for item in batch)


def _budget(longest: int, config: Pool, max_tokens: int) -> int:
    return max_tokens // 2 if config.halve_long and longest >= HALVED_FROM else max_tokens


def _best(pool: list[Item], batch: list[Item], longest: int, config: Pool, max_tokens: int) -> int | None:
    """Index of the sample to add: smallest rectangle, then, with prefer_closest, closest length; ties by age."""
    best: tuple[tuple[int, ...], int] | None = None
    for index, sample in enumerate(pool):
        cost = max(longest, sample.num_tokens) * (len(batch) + 1)
        if sample.kind != batch[0].kind or cost > _budget(longest, config, max_tokens):
            continue
        key = (cost, abs(sample.num_tokens - longest)) if config.strategy == "prefer_closest" else (cost,)
        if best is None or (key, index) < best:
            best = (key, index)
    return None if best is None else best[1]
