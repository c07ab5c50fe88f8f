"""Several datasets as one, and the order of the samples of any data (docs/data.md, Mixtures)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from attrs import evolve, frozen

from cosmos_core.config.run import TypicalSample
from cosmos_core.data.dropped import Dropped
from cosmos_core.data.interleave import Interleaving
from cosmos_core.data.sampler import EpochSampler, Order
from cosmos_core.data.source import MapSource, described
from cosmos_core.seeds import stream_seed

__all__ = ["Member", "Mixture", "members_of", "order_of"]


@frozen(kw_only=True)
class Member:
    """One dataset of the data. name: in the mixture, "" for data of one dataset. key: of its table in its section."""

    source: MapSource
    name: str = ""
    weight: float = 1.0
    key: str = "dataset"

    @property
    def text(self) -> str:
        """What the source holds."""
        return described(self.source)


class Mixture(MapSource):
    """The samples of all members, one member after the other. `order_of` says how they take turns."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._ends = list(accumulate(len(member.source) for member in members))

    def __len__(self) -> int:
        return self._ends[-1]

    def get(self, index: int, random: np.random.Generator) -> Any:
        """Sample `index`. Raises UnreadableSample."""
        source, inner = self._at(index)
        return source.get(inner, random)

    def get_lazy(self, index: int, random: np.random.Generator) -> Any:
        """The same, not decoded yet where the member supports it."""
        source, inner = self._at(index)
        return source.get_lazy(inner, random)

    def key(self, index: int) -> str:
        """The member's key."""
        source, inner = self._at(index)
        return source.key(inner)

    def identity(self, index: int) -> str:
        """The member's identity."""
        source, inner = self._at(index)
        return source.identity(inner)

    def differences(self, index: int) -> Sequence[str]:
        """The member's differences."""
        source, inner = self._at(index)
        return source.differences(inner)

    def dimensions(self, index: int) -> TypicalSample | None:
        """The member's."""
        source, inner = self._at(index)
        return source.dimensions(inner)

    def lazy_samples(self) -> Iterator[Any]:
        """Every clip of every member."""
        for member in self.members:
            yield from member.source.lazy_samples()

    @property
    def fingerprint(self) -> str:
        """Those of all members, by name."""
        return "; ".join(f"{member.name}: {member.text}" for member in self.members)

    @property
    def filtered(self) -> Mapping[str, int]:
        """What every member left out."""
        return {dropped.reason: dropped.count for dropped in self.dropped}

    @property
    def dropped(self) -> Sequence[Dropped]:
        """The same with options and examples; reasons begin with the member's name."""
        return [
            evolve(dropped, reason=f"{member.name}: {dropped.reason}")
            for member in self.members
            for dropped in member.source.dropped
        ]

    @property
    def categories(self) -> Mapping[str, str]:
        """Those of all members."""
        return {key: group for member in self.members for key, group in member.source.categories.items()}

    def _at(self, index: int) -> tuple[MapSource, int]:
        number = bisect_right(self._ends, index)
        source = self.members[number].source
        return source, index - self._ends[number] + len(source)


def members_of(source: MapSource) -> tuple[Member, ...]:
    """The members of a mixture; other data is its own single member."""
    return source.members if isinstance(source, Mixture) else (Member(source=source),)


def order_of(source: MapSource, seed: int, *, shuffle: bool) -> Order:
    """The order of data under a seed, for a run that begins."""
    members = members_of(source)
    samplers = tuple(
        EpochSampler(
            len(member.source),
            # Members of one size would have the same permutations.
            stream_seed(seed, f"member {member.name}") if isinstance(source, Mixture) else seed,
            shuffle,
            member.source.epoch_permutation,
        )
        for member in members
    )
    turns = Interleaving([member.weight for member in members]) if isinstance(source, Mixture) else None
    return Order(samplers, turns)
