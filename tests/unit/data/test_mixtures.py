"""Loaders of a mixture: shares, epochs of members, exact resume on other ranks and workers."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from typing import Any

import numpy as np
import pytest

from cosmos_core.data import MicroBatch, UnreadableSample
from cosmos_core.data.dropped import Dropped
from cosmos_core.data.mixture import Member, Mixture, order_of
from cosmos_core.errors import UserError
from tests.unit.data.numbers import Numbers, number_loader
from tests.unit.logged import logged


class Named(Numbers):
    """Numbers from `first` on; every `broken`-th cannot be read."""

    def __init__(self, count: int, first: int = 0, broken: int = 0) -> None:
        super().__init__(count)
        self.first, self.broken = first, broken

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        if self.broken and index % self.broken == 0:
            raise UnreadableSample(f"number {index}", "broken")
        return self.first + index, float(random.random())

    def get_lazy(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        return -self.first - index, 0.0

    def lazy_samples(self) -> Any:
        yield self.first

    def key(self, index: int) -> str:
        return f"number {self.first + index}"

    @property
    def dropped(self) -> list[Dropped]:
        return [Dropped("too long", self.count, "max_duration")]


def mixture(*weights: float, broken: int = 0) -> Mixture:
    """Members a, b, c of 23, 5 and 60 numbers, from 0, 1000 and 2000 on."""
    sources = (Named(23, 0, broken), Named(5, 1000), Named(60, 2000))
    return Mixture(
        [
            Member(source=source, name=name, weight=weight, key=f"mixture[{number}]")
            for number, (source, name, weight) in enumerate(zip(sources, "abc", weights, strict=False))
        ]
    )


def loader(rank: int = 0, world: int = 1, *weights: float, broken: int = 0, **options: Any) -> Any:
    return number_loader(rank, world, source=mixture(*(weights or (0.5, 0.2, 0.3)), broken=broken), **options)


def by_position(packs: list[MicroBatch]) -> dict[int, tuple[int, float, str, str]]:
    items = {item.position: (*item.value, item.key, item.dataset) for pack in packs for item in pack.items}
    assert len(items) == sum(len(pack.items) for pack in packs), "a position came twice"
    return items


def test_members_have_their_shares_their_own_epochs_and_new_draws_in_each() -> None:
    samples = by_position(list(islice(loader(), 320)))
    whole = {position: samples[position] for position in range(1000)}
    assert Counter(name for *_, name in whole.values()) == {"a": 500, "b": 200, "c": 300}
    seen = defaultdict(list)
    for _, (number, _, key, name) in sorted(whole.items()):
        seen[name].append(number)
        assert key == f"number {number}"
        assert {"a": 0, "b": 1000, "c": 2000}[name] == number // 1000 * 1000
    for name, size in (("a", 23), ("b", 5), ("c", 60)):
        epochs = [seen[name][at : at + size] for at in range(0, len(seen[name]) - size + 1, size)]
        assert all(len(set(epoch)) == size for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 1
    assert len({draw for _, draw, *_ in whole.values()}) == 1000


@pytest.mark.parametrize(
    "options", [{}, {"packing": "pool"}, {"num_workers": 2}, {"packing": "pool", "num_workers": 1}], ids=str
)
def test_four_ranks_then_one_then_two_give_what_one_gives_at_once(options: dict[str, Any]) -> None:
    alone = by_position(list(islice(loader(), 260)))
    used: dict[int, Any] = {}
    states: list[dict[str, Any]] = []
    for rank in range(4):
        packs = list(islice(loader(rank, 4, **options), 40))
        used |= by_position(packs)
        states.append(packs[-1].state)
    for world, count in ((1, 60), (2, 30)):
        packs_of = []
        for rank in range(world):
            part = loader(rank, world, **options)
            part.load_state(states)
            packs_of.append(list(islice(part, count)))
        for packs in packs_of:
            new = by_position(packs)
            assert not used.keys() & new.keys()
            used |= new
        states = [packs[-1].state for packs in packs_of]
    held_back = {position for state in states for position in state["aside"]}
    assert set(range(800)) - used.keys() <= held_back, "nothing is left out"
    assert all(used[position] == alone[position] for position in used.keys() & alone.keys())


def test_the_state_of_a_restarted_mixture_is_what_it_was_given() -> None:
    packs = list(islice(loader(), 20))
    again = loader()
    again.load_state([packs[-1].state])
    assert again.state() == packs[-1].state
    assert packs[-1].state["format"] == 2


def test_other_weights_let_every_member_go_on_where_it_was() -> None:
    packs = list(islice(loader(0, 1, 0.5, 0.2, 0.3), 7))
    before = by_position(packs)
    other = loader(0, 1, 0.1, 0.1, 0.8)
    other.load_state([packs[-1].state])
    after = by_position(list(islice(other, 90)))
    assert min(after) > max(before)
    for name, size in (("a", 23), ("b", 5), ("c", 60)):
        had = [number for number, _, _, member in before.values() if member == name]
        then = [number for _, (number, _, _, member) in sorted(after.items()) if member == name]
        left = size - len(had) % size
        assert len(set(had[len(had) // size * size :]) | set(then[:left])) == size, f"{name}: the epoch is not one"
    counts = Counter(name for position, (*_, name) in after.items())
    assert counts["c"] > 6 * counts["a"]


def test_an_unreadable_sample_is_counted_and_a_mixture_reads_lazily_lists_clips_and_tells_what_it_left_out() -> None:
    broken = loader(broken=7, max_bad_sample_fraction=0.5)
    list(islice(broken, 60))
    assert broken.skipped == {"broken": 4}
    assert min(item.value[0] for item in next(iter(loader(cache="somewhere"))).items) < 0
    data = mixture(1, 1, 1)
    assert list(data.lazy_samples()) == [0, 1000, 2000]
    assert data.filtered == {"a: too long": 23, "b: too long": 5, "c: too long": 60}
    assert data.dropped[0].key == "max_duration"
    assert [data.key(index) for index in (0, 22, 23, 27, 28, 87)] == [
        f"number {number}" for number in (0, 22, 1000, 1004, 2000, 2059)
    ]
    with logged() as lines:
        loader().announce()
    assert lines == ["left out of dataset 'numbers': 23 x a: too long, 5 x b: too long, 60 x c: too long"]


def test_without_shuffling_members_take_turns_in_their_own_order() -> None:
    order = order_of(mixture(1, 1), 3, shuffle=False)
    places = [order.place(position) for position in range(60)]
    assert [place.index for place in places if place.member == 0] == [*range(23), *range(7)]
    assert [place.index - 23 for place in places if place.member == 1] == [*range(5)] * 6
    assert [place.epoch for place in places if place.member == 1] == [epoch for epoch in range(6) for _ in range(5)]


def test_members_that_come_or_go_are_refused_by_name() -> None:
    state = next(iter(loader())).state
    fewer = number_loader(0, 1, source=mixture(0.5, 0.2))
    with pytest.raises(UserError, match="has changed") as error:
        fewer.load_state([state])
    assert [problem.message for problem in error.value.problems] == ["c, which the checkpoint was trained on, is gone"]
    with pytest.raises(UserError, match="has changed") as error:
        loader().load_state([next(iter(fewer)).state])
    (problem,) = error.value.problems
    assert (problem.key, problem.message) == (
        "dataloader_train.mixture[2]",
        "is 60 samples, the checkpoint was trained without",
    )
    single = next(iter(number_loader(0, 1))).state
    with pytest.raises(UserError, match="has changed"):
        loader().load_state([single])
    with pytest.raises(UserError, match="has changed"):
        number_loader(0, 1).load_state([state])
