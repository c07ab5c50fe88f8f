"""A run that goes on when rows came or went: every key that its epoch has not seen comes exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.data.mixture import Member, Mixture
from cosmos_core.data.resume import plain
from cosmos_core.errors import UserError
from tests.unit.data.numbers import Numbers, number_loader


class Rows(Numbers):
    """Samples with these numbers, which their keys name; negative ones cannot be read."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.numbers = list(numbers)
        super().__init__(len(self.numbers))

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        if self.numbers[index] < 0:
            raise UnreadableSample(self.key(index), "negative")
        return self.numbers[index], float(random.random())

    def key(self, index: int) -> str:
        return f"number {self.numbers[index]}"

    @property
    def fingerprint(self) -> str:
        return f"{len(self)} rows, sum {sum(self.numbers)}"


BEFORE = [*range(50)]
AFTER = [*range(3, 20), *range(25, 50), *range(100, 112)]


def rows_loader(rank: int, world: int, numbers: Iterable[int], *, accepts: bool = True, **options: Any) -> Any:
    source = Mixture([Member(source=Rows(numbers), name="x")]) if options.pop("mixed", False) else None
    options = {"max_bad_sample_fraction": 0.5, **options}
    return number_loader(rank, world, source=source or Rows(numbers), accepts=accepts, **options)


Numbered = dict[int, int]
"""Position -> number."""


def run(
    numbers: Iterable[int], states: list[Any], world: int, packs: int, **options: Any
) -> tuple[Numbered, list[Any]]:
    """What all ranks use in so many packs each, and their states."""
    used, new = {}, []
    for rank in range(world):
        loader = rows_loader(rank, world, numbers, **options)
        if states:
            loader.load_state(states)
        some = list(islice(loader, packs))
        used |= {item.position: item.value[0] for pack in some for item in pack.items}
        new.append(some[-1].state)
    return used, new


def unseen(data: Iterable[int], *used: Numbered) -> Counter[int]:
    """Numbers of the data that are not in the first epoch's."""
    return Counter(data) - Counter(number for part in used for number in part.values())


def in_order(used: Numbered, states: list[Any], count: int) -> Counter[int]:
    """The first `count` numbers after the change that these states are from."""
    origin = states[0]["order"]["origin"]
    return Counter(used[position] for position in range(origin, origin + count))


@pytest.mark.parametrize("packing", ["fill", "pool"])
@pytest.mark.parametrize("mixed", [False, True], ids=["alone", "in a mixture"])
@pytest.mark.parametrize("worlds", [(1, 1), (3, 2), (2, 4)], ids=str)
def test_what_is_left_and_what_is_new_comes_once_and_what_was_seen_or_is_gone_does_not(
    worlds: tuple[int, int], mixed: bool, packing: str
) -> None:
    options = {"packing": packing, "mixed": mixed}
    first, states = run(BEFORE, [], worlds[0], 2, **options)
    left = unseen(AFTER, {position: number for position, number in first.items() if position < len(BEFORE)})
    second, states = run(AFTER, states, worlds[1], 1, **options)
    third, states = run(AFTER, states, 1, 60, **options)
    assert not second.keys() & third.keys()
    assert in_order(second | third, states, left.total()) == left


def test_the_epochs_after_it_are_whole_and_resume_exactly() -> None:
    first, states = run(BEFORE, [], 1, 4)
    left = unseen(AFTER, first).total()
    later, now = run(AFTER, states, 1, 60)
    epochs = (in_order(later, now, left + epoch * len(AFTER)) for epoch in (1, 2))
    assert [epoch - unseen(AFTER, first) for epoch in epochs] == [Counter(AFTER), Counter(2 * AFTER)]
    whole = rows_loader(0, 1, AFTER)
    whole.load_state(states)
    packs = list(islice(whole, 12))
    for at in (0, 2, 9):
        again = rows_loader(0, 1, AFTER, accepts=False)
        again.load_state([packs[at].state])
        assert [pack.items for pack in islice(again, 12 - at - 1)] == [pack.items for pack in packs[at + 1 :]]


def test_data_may_change_twice_in_one_epoch_and_skipped_samples_were_seen() -> None:
    first, states = run([*BEFORE, -1, -2, -3], [], 2, 2)
    second, states = run([*AFTER, -1, -2, -3], states, 2, 1)
    last = [*BEFORE, *range(100, 106), -1, -2, -3]
    third, states = run(last, states, 1, 60)
    left = unseen([number for number in last if number >= 0], first, second)
    begun = [entry.bit_count() for entry in (int.from_bytes(bits, "big") for bits in left_of(states).values())]
    origin = states[0]["order"]["origin"]
    came = Counter(number for position, number in third.items() if position < origin + sum(begun))
    assert came == left
    assert left.total() <= sum(begun) < left.total() + 3


def left_of(states: list[Any]) -> dict[int, bytes]:
    left: dict[int, bytes] = states[0]["order"]["members"][""]["left"]
    return left


def test_of_samples_with_one_key_as_many_come_as_were_not_seen() -> None:
    doubled = [*range(20), *range(20)]
    first, states = run(doubled, [], 1, 3)
    left = unseen([*doubled, 77], first)
    later, states = run([*doubled, 77], states, 1, 60)
    assert in_order(later, states, left.total()) == left


def test_at_the_end_of_an_epoch_what_is_new_waits_for_the_next() -> None:
    _, states = run(BEFORE, [], 1, 5, max_sequence_length=None, max_samples_per_batch=10)
    later, states = run(AFTER, states, 1, 60)
    assert left_of(states) == {}
    assert in_order(later, states, len(AFTER)) == Counter(AFTER)


def test_without_the_option_changed_data_is_refused_with_the_way_to_go_on() -> None:
    _, states = run(BEFORE, [], 1, 2)
    with pytest.raises(UserError, match="has changed") as error:
        rows_loader(0, 1, AFTER, accepts=False).load_state(states)
    hint = error.value.problems[0].hint
    assert "dataloader_train.dataset.changed=accept" in hint
    assert "another run from these weights: job.name=NAME checkpoint.load_path=" in hint
    old = [{key: value for key, value in states[0].items() if key != "used"}]
    with pytest.raises(UserError, match="has changed") as error:
        rows_loader(0, 1, AFTER).load_state(old)
    assert "by a version that did not keep which samples were seen" in error.value.problems[0].message


def test_what_was_accepted_is_told() -> None:
    first, states = run(BEFORE, [], 1, 2)
    loader = rows_loader(0, 1, AFTER)
    loader.load_state(states)
    left = unseen(AFTER, first).total()
    assert loader.changes == {
        "dataloader_train.dataset": f"is {Rows(AFTER).fingerprint}, the checkpoint was trained on "
        f"{Rows(BEFORE).fingerprint}; goes on with {left} samples of epoch 0"
    }
    same = rows_loader(0, 1, BEFORE)
    same.load_state(states)
    assert same.changes == {}


def test_states_stay_small_and_forget_old_epochs() -> None:
    loader = rows_loader(0, 1, BEFORE)
    packs = list(islice(loader, 60))
    used = packs[-1].state["used"][""]
    assert len(used) <= 3
    assert sum(map(len, used.values())) <= 3 * 8 * len(BEFORE)


def test_a_packs_state_stays_what_it_was_when_later_packs_come() -> None:
    packs = list(islice(rows_loader(0, 1, BEFORE), 12))
    state = plain(packs[2].state)["used"]
    assert state == {"": {0: state[""][0]}}
    assert len(state[""][0]) == 8 * sum(len(pack.items) for pack in packs[:3])
