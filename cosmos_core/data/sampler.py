"""Which sample comes at which global position, and which rank takes it. Pure functions of seed and position."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any

import numpy as np
from attrs import frozen

from cosmos_core.seeds import stream_seed

__all__ = ["LOADER_FORMAT", "EpochSampler", "initial_state", "is_loader_state", "remaining"]

LOADER_FORMAT = 1
"""Format number of the state in a checkpoint."""

Permutation = np.ndarray[Any, np.dtype[np.int64]]


@frozen
class EpochSampler:
    """Positions 0, 1, 2, ... run through epochs of `size` samples; each epoch has its own permutation.

    draw: makes the permutation of an epoch from a generator; uniform when absent.
    """

    size: int
    seed: int
    shuffle: bool
    draw: Callable[[np.random.Generator], Permutation] | None = None

    def epoch(self, position: int) -> int:
        """Epoch of a position."""
        return position // self.size

    def permutation(self, epoch: int) -> Permutation:
        """Sample index at each place of an epoch."""
        if not self.shuffle:
            return np.arange(self.size)
        random = np.random.default_rng(stream_seed(self.seed, "order", epoch))
        return random.permutation(self.size) if self.draw is None else self.draw(random)


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
