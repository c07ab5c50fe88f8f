"""Whose turn it is in a mixture."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosmos_core.data.interleave import BLOCK, Interleaving

WEIGHTS = st.lists(st.floats(1e-4, 1e4, allow_nan=False), min_size=1, max_size=6)
SPAN = 9 * BLOCK


def members(weights: list[float], count: int = SPAN) -> np.ndarray[Any, Any]:
    turns = Interleaving(weights)
    return np.array([turns.turn(number)[0] for number in range(count)])


def shares(weights: list[float]) -> list[Fraction]:
    exact = [Fraction(str(weight)) for weight in weights]
    return [weight / sum(exact) for weight in exact]


@settings(max_examples=20, deadline=None)
@given(WEIGHTS)
@example([0.7359, 0.5376, 0.7737, 0.9492, 0.5629, 0.3557])
def test_any_thousand_in_a_row_hold_every_share_and_the_whole_does_too(weights: list[float]) -> None:
    taken = members(weights)
    for member, share in enumerate(shares(weights)):
        counts = np.concatenate([[0], np.cumsum(taken == member)])
        assert np.abs(counts[BLOCK:] - counts[:-BLOCK] - float(BLOCK * share)).max() <= 1
        assert np.abs(counts - np.arange(SPAN + 1) * float(share)).max() < len(weights) + 1


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.lists(st.integers(0, SPAN - 1), min_size=1, max_size=6))
def test_a_turn_is_the_same_whichever_were_asked_before(weights: list[float], numbers: list[int]) -> None:
    taken, turns = members(weights), Interleaving(weights)
    for number in numbers:
        had = np.bincount(taken[:number], minlength=len(weights))
        assert turns.turn(number) == (taken[number], had[taken[number]])
        assert turns.before(number) == had.tolist()


def test_a_member_with_less_than_one_in_a_thousand_has_its_turns_too() -> None:
    assert (members([0.9998, 0.0002], 50 * BLOCK) == 1).sum() == 10


def test_only_proportions_count() -> None:
    assert members([0.7, 0.2, 0.1]).tolist() == members([7, 2, 1]).tolist() == members([0.07, 0.02, 0.01]).tolist()


@pytest.mark.parametrize("span", [10, 100])
def test_turns_are_spread_within_a_block(span: int) -> None:
    taken = members([0.7, 0.2, 0.1], BLOCK)
    for member, share in enumerate((0.7, 0.2, 0.1)):
        counts = np.convolve(taken == member, np.ones(span), "valid")
        assert np.abs(counts - span * share).max() <= 2
