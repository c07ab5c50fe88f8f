"""What a loader's state keeps over restarts on other numbers of ranks, and what is drawn anew in each epoch."""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from cosmos_core.checkpoint.load import load_loader_states
from cosmos_core.data.sampler import LOADER_FORMAT, initial_state, remaining
from cosmos_core.errors import UserError
from tests.unit.data.numbers import number_loader, positions_of

EPOCHS = 3


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packing", ["fill", "pool"])
def test_four_ranks_then_one_restarted_twice_use_every_sample_once(packing: str, workers: int) -> None:
    """Samples that packing holds back or that workers have read ahead were not used, so they come again."""
    options = {"epochs": EPOCHS, "packing": packing, "num_workers": workers}
    used, states = [], []
    for rank in range(4):
        packs = list(islice(number_loader(rank, 4, **options), 2))
        used += positions_of(packs)
        states.append(packs[-1].state)
    for count in (1, 2, None):
        loader = number_loader(0, 1, **options)
        loader.load_state(states)
        packs = list(islice(loader, count))
        used += positions_of(packs)
        states = [packs[-1].state]
    assert sorted(used) == list(range(EPOCHS * 37))


@pytest.mark.parametrize("packing", ["fill", "pool"])
def test_a_loader_that_was_restarted_but_gave_nothing_saves_what_it_was_given(packing: str) -> None:
    packs = [list(islice(number_loader(rank, 2, packing=packing), 3)) for rank in range(2)]
    moved = number_loader(0, 1, packing=packing)
    moved.load_state([one[-1].state for one in packs])
    again = number_loader(0, 1, packing=packing)
    again.load_state([moved.state()])
    assert [(pack.items, pack.state) for pack in islice(again, 9)] == [
        (pack.items, pack.state) for pack in islice(moved, 9)
    ]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_states_that_context_parallel_peers_saved_alike_count_once(world: int) -> None:
    used, states = [], []
    for rank in range(2):
        packs = list(islice(number_loader(rank, 2, epochs=EPOCHS), 2 + rank))
        used += positions_of(packs)
        states += [packs[-1].state] * 2
    for rank in range(world):
        loader = number_loader(rank, world, epochs=EPOCHS)
        loader.load_state(states)
        used += positions_of(loader)
    assert sorted(used) == list(range(EPOCHS * 37))


def test_a_state_of_the_next_format_is_refused(tmp_path: Path) -> None:
    state = initial_state(0, 1)
    torch.save({"format": 1, **state}, tmp_path / "rank_0.pkl")
    assert load_loader_states(tmp_path) == [{"format": 1, **state}]
    torch.save({"format": LOADER_FORMAT + 1, **state}, tmp_path / "rank_0.pkl")
    with pytest.raises(UserError, match="newer version"):
        load_loader_states(tmp_path)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_each_rank_of_another_world_goes_on_at_its_own_positions(world: int, taken: int) -> None:
    """Rank r takes the positions that leave r when divided by the number of ranks, as from the start."""
    states = [{"world": 4, "frontier": rank + 4 * taken, "aside": []} for rank in range(4)]
    frontiers = [remaining(states, rank, world)[1] for rank in range(world)]
    assert [frontier % world for frontier in frontiers] == list(range(world))
    assert sorted(frontiers) == list(range(min(frontiers), min(frontiers) + world))


def draws_of(rank: int, world: int) -> dict[int, tuple[int, float, str]]:
    """Position -> number, draw and key."""
    packs = number_loader(rank, world, epochs=EPOCHS)
    return {item.position: (*item.value, item.key) for pack in packs for item in pack.items}


def test_every_epoch_draws_anew_for_every_sample() -> None:
    drawn = defaultdict(set)
    for number, draw, _ in draws_of(0, 1).values():
        drawn[number].add(draw)
    assert drawn.keys() == set(range(37))
    assert all(len(draws) == EPOCHS for draws in drawn.values())
    assert len(set.union(*drawn.values())) == EPOCHS * 37


def test_draws_and_keys_belong_to_the_position_on_any_number_of_ranks() -> None:
    alone = draws_of(0, 1)
    assert {position: value for rank in range(3) for position, value in draws_of(rank, 3).items()} == alone
    assert all(key == f"number {number}" for number, _, key in alone.values())
