"""A pack in parts, which pass the model one after the other.

Losses are sums, divided by the denominator of the whole step, and every random draw is keyed by a sample's position: a
step in parts is the same step to rounding.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from cosmos_core.data.loader import MicroBatch
from cosmos_core.data.samples import Item
from cosmos_core.train.family import ModelFamily

__all__ = ["Part", "collated"]


@dataclass(frozen=True, slots=True)
class Part:
    """Samples of a pack that pass the model together.

    items: without their values, which `batch` holds again. weight: of its loss, 0 where it does not count.
    """

    items: list[Item]
    batch: Any
    weight: float = 1.0


def collated(pack: MicroBatch, family: ModelFamily, parts: int) -> MicroBatch:
    """The pack with so many collated parts, and without the samples.

    All ranks must pass the model as often, so that a pack of fewer samples repeats its shortest one, which does not
    count.
    """
    if pack.parts:
        return pack
    groups = _divided(pack.items, parts)
    made = [Part(_emptied(group), family.collate(group)) for group in groups]
    while len(made) < parts:
        shortest = min(pack.items, key=lambda item: item.num_tokens)
        made.append(Part([], family.collate([shortest]), weight=0.0))
    return replace(pack, items=_emptied(pack.items), parts=tuple(made))


def _emptied(items: Sequence[Item]) -> list[Item]:
    return [replace(item, value=None) for item in items]


def _divided(items: Sequence[Item], parts: int) -> list[list[Item]]:
    """Neighbours, nearly as many tokens in each of the parts; no part is empty, so that there may be fewer."""
    parts = min(parts, len(items))
    lengths = [max(1, item.num_tokens) for item in items]
    middles = [end - length / 2 for end, length in zip(accumulate(lengths), lengths, strict=True)]
    bounds = [0]
    for part in range(1, parts):
        nearest = bisect_left(middles, sum(lengths) * part / parts)
        bounds.append(min(max(nearest, bounds[-1] + 1), len(items) - (parts - part)))
    return [list(items[start:end]) for start, end in zip(bounds, [*bounds[1:], len(items)], strict=True)]
