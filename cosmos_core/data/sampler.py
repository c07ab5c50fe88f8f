"""Which sample comes at which global position, and which rank takes it. Pure functions of seed and position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from attrs import field, frozen

from cosmos_core.data.interleave import Interleaving
from cosmos_core.seeds import stream_seed

__all__ = [
    "LOADER_FORMAT", "ONE_DATASET_FORMAT", "Begin", "EpochSampler", "Order", "Place", "initial_state",
    "is_loader_state", "packed", "positions", "remaining", "unpacked",
]  # fmt: skip

LOADER_FORMAT = 2
"""Newest format number of the state in a checkpoint."""
ONE_DATASET_FORMAT = 1
"""Of one dataset whose order began at position 0, so that older versions resume it."""

Permutation = np.ndarray[Any, np.dtype[np.int64]]


@frozen
class Begin:
    """Where the order of a dataset begins: first what is left of begun epochs, then whole ones.

    left: of each begun epoch its number, and whether each sample is left as bits. epoch: the first whole one.
    """

    left: tuple[tuple[int, bytes], ...] = ()
    epoch: int = 0


@frozen
class EpochSampler:
    """Positions 0, 1, 2, ... run through epochs of `size` samples; each epoch has its own permutation.

    draw: makes the permutation of an epoch from a generator; uniform when absent. begin: what comes at position 0.
    """

    size: int
    seed: int
    shuffle: bool
    draw: Callable[[np.random.Generator], Permutation] | None = None
    begin: Begin = Begin()
    _newest: dict[int, Permutation] = field(factory=dict, init=False, eq=False, repr=False)

    def epoch(self, position: int) -> int:
        """Epoch of a position."""
        return self.split(position)[0]

    def split(self, position: int) -> tuple[int, int]:
        """Epoch of a position, and how many positions it has had before."""
        for epoch, left in self.begin.left:
            count = int.from_bytes(left, "big").bit_count()
            if position < count:
                return epoch, position
            position -= count
        return self.begin.epoch + position // self.size, position % self.size

    def index(self, position: int) -> tuple[int, int]:
        """Epoch and sample index of a position."""
        epoch, place = self.split(position)
        if epoch not in self._newest:
            self._newest.clear()
            self._newest[epoch] = self.indices(epoch)
        return epoch, int(self._newest[epoch][place])

    def indices(self, epoch: int) -> Permutation:
        """Sample index at each position of an epoch: all of them, or those that are left."""
        order = self.permutation(epoch)
        for begun, left in self.begin.left:
            if begun == epoch:
                return order[unpacked(left, self.size)[order]]
        return order

    def permutation(self, epoch: int) -> Permutation:
        """Sample index at each place of a whole epoch."""
        if not self.shuffle:
            return np.arange(self.size)
        random = np.random.default_rng(stream_seed(self.seed, "order", epoch))
        return random.permutation(self.size) if self.draw is None else self.draw(random)


def packed(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> bytes:
    """A mask of samples as bits."""
    return np.packbits(mask).tobytes()


def unpacked(bits: bytes, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The mask of `size` samples."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=size).astype(bool)


@frozen
class Place:
    """What comes at a position. index: in the data; member: which of its members it belongs to, in which epoch."""

    index: int
    member: int
    epoch: int


@frozen
class Order:
    """The whole order of the data: one member, or several that take turns. origin: the position it begins at."""

    members: tuple[EpochSampler, ...]
    turns: Interleaving | None = None
    origin: int = 0

    @property
    def size(self) -> int:
        """Samples of all members."""
        return sum(member.size for member in self.members)

    def place(self, position: int) -> Place:
        """What comes at a position from the origin on."""
        number = position - self.origin
        member, number = self.turns.turn(number) if self.turns is not None else (0, number)
        epoch, index = self.members[member].index(number)
        return Place(index + sum(earlier.size for earlier in self.members[:member]), member, epoch)

    def before(self, position: int) -> list[int]:
        """How many positions every member has had before this one."""
        number = position - self.origin
        return [number] if self.turns is None else self.turns.before(number)

    def epoch(self, position: int) -> int:
        """Epoch of a position; of several members, one for as many positions as they have samples."""
        return self.members[0].epoch(position - self.origin) if self.turns is None else position // self.size


def initial_state(rank: int, world: int) -> dict[str, Any]:
    """State of a loader that has delivered nothing: plain containers, as kept in checkpoints.

    world: number of data ranks. frontier: the cursor, this rank's first position not yet taken. aside: positions that
    were taken and held back, in order.
    """
    return {"world": world, "frontier": rank, "aside": []}


def is_loader_state(state: Any) -> bool:
    """Whether a checkpoint's entry is a state of this loader and not of another program's."""
    return isinstance(state, dict) and {"world", "frontier", "aside"} <= state.keys()


def remaining(states: Sequence[dict[str, Any]], rank: int, world: int) -> tuple[Iterable[int], int]:
    """Positions a rank of the new world still has to deliver first, and its frontier after them.

    With the same world this is the saved state itself. Otherwise, what old ranks had not delivered before the furthest
    frontier is dealt out in order, then all ranks continue from that frontier: no sample is lost or repeated.
    Context-parallel peers saved the same state, which counts once.
    """
    by_rank = {state["frontier"] % state["world"]: state for state in states}
    states = [by_rank[number] for number in sorted(by_rank)]
    if len(states) == world == states[0]["world"]:
        return list(states[rank]["aside"]), states[rank]["frontier"]
    furthest = max(state["frontier"] for state in states)
    pending = sorted(
        chain.from_iterable(
            chain(state["aside"], range(state["frontier"], furthest, state["world"])) for state in states
        )
    )
    return pending[rank::world], furthest + (rank - furthest) % world


def positions(first: Iterable[int], frontier: int, world: int, end: int | None) -> Iterator[int]:
    """`first`, then every `world`-th position from `frontier` on, up to `end`."""
    following = count(frontier, world) if end is None else range(frontier, end, world)
    return chain(first, following)
