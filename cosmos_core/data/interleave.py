"""Whose turn it is in a mixture: a fixed sequence with every member's share in any 1,000 consecutive turns."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["BLOCK", "Interleaving"]

BLOCK = 1000
"""Turns of a block."""


class Interleaving:
    """Which member has turn 0, 1, 2, ...; over any 1,000 consecutive turns a member's count is off by 1 at most.

    A block has the same turns for every member, besides those that its rounded-down share leaves over. These go to the
    members that are furthest behind. One that has such a turn in two blocks in a row has the same one, so a window over
    both counts as a block does.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        """weights: positive; only their proportions count, which are exact however long the sequence is."""
        # Of the decimal text, so that 0.1 is a tenth.
        shares = [Fraction(str(weight)) for weight in weights]
        exact = [BLOCK * share / sum(shares) for share in shares]
        self._floors = np.array([int(share) for share in exact])
        self._rests = [share - int(share) for share in exact]
        self._spare = BLOCK - int(self._floors.sum())
        self._slots = _spread([*self._floors.tolist(), self._spare])
        self._begin()

    def turn(self, number: int) -> tuple[int, int]:
        """The member that has this turn, and how many it had before."""
        block, slot = divmod(number, BLOCK)
        members = self._members(block)
        member = int(members[slot])
        return member, int(self._before[member] + np.count_nonzero(members[:slot] == member))

    def before(self, number: int) -> list[int]:
        """How many turns every member has before this one."""
        block, slot = divmod(number, BLOCK)
        counts = np.bincount(self._members(block)[:slot], minlength=len(self._floors))
        return [int(count) for count in self._before + counts]

    def _begin(self) -> None:
        self._block = 0
        self._before = np.zeros(len(self._floors), np.int64)
        self._due = list(self._rests)
        self._holders: list[int] = []
        self._hand_out()

    def _members(self, block: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The member at each turn of a block."""
        if block < self._block:
            self._begin()
        while self._block < block:
            self._before += self._floors
            for member in self._holders:
                self._before[member] += 1
            self._due = [due + rest for due, rest in zip(self._due, self._rests, strict=True)]
            self._block += 1
            self._hand_out()
        members = self._slots.copy()
        members[members == len(self._floors)] = self._holders
        return members

    def _hand_out(self) -> None:
        """Give this block's spare turns to the members that are furthest behind."""
        behind = sorted((-due, member) for member, due in enumerate(self._due) if self._rests[member])
        chosen = [member for _, member in behind[: self._spare]]
        for member in chosen:
            self._due[member] -= 1
        new = [member for member in chosen if member not in self._holders]
        kept = [member if member in chosen else new.pop(0) for member in self._holders]
        self._holders = kept or chosen


def _spread(counts: Sequence[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Every number as often as its count says, each spread evenly."""
    numbers = np.repeat(np.arange(len(counts)), counts)
    times = np.concatenate([(np.arange(count) + 0.5) / max(count, 1) for count in counts])
    return numbers[np.argsort(times, kind="stable")]
