"""A pack in parts, which pass the model one after the other.

Losses are sums, divided by the denominator of the whole step, and every random draw is keyed by a sample's position: a
step in parts is the same step to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    groups = _divided(pack.items, parts)
    made = [Part(_emptied(group), family.collate(group)) for group in groups]
    if len(made) < parts:
        shortest = min(pack.items, key=lambda item: item.num_tokens)
        made += (parts - len(made)) * [Part([], family.collate([shortest]), weight=0.0)]
    return replace(pack, items=_emptied(pack.items), parts=tuple(made))


def _emptied(items: Sequence[Item]) -> list[Item]:
    return [replace(item, value=None) for item in items]


def _divided(items: Sequence[Item], parts: int) -> list[list[Item]]:
    """Nearly as many tokens in each of the parts; none is empty, so that there may be fewer.

    The longest samples are divided first, each goes to the part with the fewest tokens: the largest part takes the
    memory. The largest part passes first, as it does on every rank, since ranks wait for each other in every layer.
    """
    chosen: list[list[int]] = [[] for _ in range(min(parts, len(items)))]
    tokens = [0] * len(chosen)
    for place in sorted(range(len(items)), key=lambda place: -items[place].num_tokens):
        fewest = tokens.index(min(tokens))
        chosen[fewest].append(place)
        tokens[fewest] += max(1, items[place].num_tokens)
    largest_first = sorted(range(len(chosen)), key=lambda part: -tokens[part])
    return [[items[place] for place in sorted(chosen[part])] for part in largest_first]
