"""Order, packing and resume of the loader as properties: nothing lost, nothing twice, the same again."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.config.run import Pool
from cosmos_core.data import MapSource, PackedLoader, Preparation, UnreadableSample
from cosmos_core.data.packing import pack_stream
from cosmos_core.data.pool import pool_stream
from cosmos_core.data.sampler import EpochSampler
from cosmos_core.data.samples import Item
from cosmos_core.errors import UserError


class Numbers(MapSource):
    """Sample i is (i, a random draw); every `broken`-th is unreadable."""

    def __init__(self, count: int, broken: int = 0) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        if self.broken and index % self.broken == 0:
            raise UnreadableSample(f"number {index}", "broken")
        return index, float(random.random())


def loader(
    rank: int, world: int, *, count: int = 37, broken: int = 0, epochs: int | None = None, source=None, **options
):
    settings = {"max_sequence_length": 50, "num_workers": 0, "max_bad_sample_fraction": 1.0, **options}
    config = DataloaderConfig(dataset=DatasetConfig(type="numbers"), **settings)
    return PackedLoader(
        source or Numbers(count, broken),
        config=config,
        preparation=Preparation(lambda sample: sample, lambda sample: 3 + 7 * sample[0] % 23),
        rank=rank,
        world=world,
        epochs=epochs,
    )


def positions_of(packs) -> list[int]:
    return [item.position for pack in packs for item in pack.items]


@given(size=st.integers(1, 200), seed=st.integers(0, 5), epoch=st.integers(0, 3))
@settings(deadline=None)
def test_every_epoch_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    assert sorted(EpochSampler(size, seed, True).permutation(epoch)) == list(range(size))


def test_epochs_differ_and_seeds_differ() -> None:
    order = EpochSampler(100, 1, True)
    assert list(order.permutation(0)) != list(order.permutation(1))
    assert list(order.permutation(0)) != list(EpochSampler(100, 2, True).permutation(0))
    assert list(EpochSampler(100, 1, False).permutation(7)) == list(range(100))


@given(costs=st.lists(st.integers(1, 40), min_size=1, max_size=60), limit=st.integers(41, 120))
@settings(deadline=None)
def test_packs_stay_below_the_cap_and_lose_nothing(costs: list[int], limit: int) -> None:
    stream = (Item(position, None, num_tokens=cost) for position, cost in enumerate(costs))
    packs = [items for items, *_ in pack_stream(stream, max_samples=None, max_tokens=limit)]
    assert sorted(item.position for pack in packs for item in pack) == list(range(len(costs)))
    assert all(pack for pack in packs)
    assert all(sum(costs[item.position] for item in pack) < limit for pack in packs)


@given(
    costs=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    limit=st.integers(41, 120),
)
@settings(deadline=None)
def test_packing_equals_the_written_algorithm(costs: list[int], limit: int) -> None:
    """Greedy with a push-back queue and a lookahead of ten, written down independently."""
    queue, expected = list(range(len(costs))), []
    while queue:
        batch, aside, used = [], [], 0
        while queue and not (batch and len(aside) >= 10):
            sample = queue.pop(0)
            if used + costs[sample] >= limit:
                aside.append(sample)
            else:
                batch.append(sample)
                used += costs[sample]
        queue = aside + queue
        expected.append(batch)
    stream = (Item(position, None, num_tokens=cost) for position, cost in enumerate(costs))
    found = [[item.position for item in items] for items, *_ in pack_stream(stream, max_samples=None, max_tokens=limit)]
    assert found == expected


@given(world=st.integers(1, 5), epochs=st.integers(1, 3), broken=st.sampled_from([0, 5]))
@settings(deadline=None)
def test_ranks_together_see_every_sample_once_an_epoch(world: int, epochs: int, broken: int) -> None:
    seen = [
        item.value[0]
        for rank in range(world)
        for pack in loader(rank, world, epochs=epochs, broken=broken)
        for item in pack.items
    ]
    expected = [index for index in range(37) if not broken or index % broken] * epochs
    assert sorted(seen) == sorted(expected)


@given(stop=st.integers(0, 30), rank=st.integers(0, 2), packing=st.sampled_from(["fill", "pool"]))
@settings(deadline=None)
def test_a_resumed_loader_continues_exactly(stop: int, rank: int, packing: str) -> None:
    whole = list(islice(loader(rank, 3, packing=packing), 40))
    state = whole[stop - 1].state if stop else loader(rank, 3).state()
    others = [loader(other, 3).state() for other in range(3)]
    others[rank] = state
    again = loader(rank, 3, packing=packing)
    again.load_state(others)
    rest = list(islice(iter(again), 40 - stop))
    assert [[(item.position, item.value) for item in pack.items] for pack in rest] == [
        [(item.position, item.value) for item in pack.items] for pack in whole[stop:]
    ]


@given(stops=st.lists(st.integers(0, 12), min_size=3, max_size=3), world=st.integers(1, 5))
@settings(deadline=None)
def test_resuming_on_other_ranks_loses_nothing_and_repeats_nothing(stops: list[int], world: int) -> None:
    states, delivered = [], []
    for rank, stop in enumerate(stops):
        packs = list(islice(loader(rank, 3), stop))
        delivered += positions_of(packs)
        states.append(packs[-1].state if packs else loader(rank, 3).state())
    for rank in range(world):
        again = loader(rank, world)
        again.load_state(states)
        delivered += positions_of(islice(iter(again), 30))
    assert len(delivered) == len(set(delivered))
    complete = min(max(delivered), 37 * 3)
    missing = set(range(complete // 2)) - set(delivered)
    assert not missing


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers: int) -> None:
    alone = list(islice(loader(0, 2), 12))
    helped = list(islice(loader(0, 2, num_workers=workers), 12))
    for one, other in zip(alone, helped, strict=True):
        assert [(item.position, item.value) for item in one.items] == [(i.position, i.value) for i in other.items]
        assert one.state == other.state


def test_unreadable_samples_are_counted_by_reason() -> None:
    source = loader(0, 1, broken=6, epochs=1)
    list(source)
    assert source.skipped == {"broken": 7}


def test_too_many_unreadable_samples_end_the_run() -> None:
    with pytest.raises(UserError, match="max_bad_sample_fraction"):
        list(loader(0, 1, broken=2, epochs=1, max_bad_sample_fraction=0.1))


class BrokenByChance(Numbers):
    """500 samples, about `share` of them unreadable."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__(500)
        self.bad = set(np.flatnonzero(np.random.default_rng(seed).random(self.count) < share))

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        if index in self.bad:
            raise UnreadableSample(f"number {index}", "broken")
        return super().get(index, random)


def test_a_share_near_the_limit_ends_no_run_by_chance() -> None:
    """400 ranks that each see 500 samples, 3 % of them broken where 5 % are allowed; with 20 % each of 20 ends."""

    def ends(share: float, seed: int) -> bool:
        source = loader(0, 1, max_bad_sample_fraction=0.05, source=BrokenByChance(share, seed))
        try:
            for pack in source:
                if pack.state["frontier"] >= 500:
                    return False
        except UserError:
            pass
        return True

    assert not any(ends(0.03, seed) for seed in range(400))
    assert all(ends(0.2, seed) for seed in range(20))


def test_an_empty_dataset_is_an_error() -> None:
    with pytest.raises(UserError, match="empty"):
        loader(0, 1, count=0)


@given(
    lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=50),
    budget=st.integers(500, 6000),
    most=st.sampled_from([None, 1, 3]),
    strategy=st.sampled_from(["prefer_closest", "prefer_first"]),
)
@settings(deadline=None)
def test_the_pool_packer_equals_the_written_algorithm(
    lengths: list[int], budget: int, most: int | None, strategy: str
) -> None:
    """Written down independently, over a whole stream of two kinds."""
    kinds = ["image" if length % 3 else "text" for length in lengths]
    waiting, pool, expected = list(range(len(lengths))), [], []

    def limit(longest: int) -> int:
        return budget // 2 if longest >= 1000 else budget

    while waiting or pool:
        pool, waiting = pool + waiting[: 16 - len(pool)], waiting[16 - len(pool) :]
        batch = [pool.pop(0)]
        longest = lengths[batch[0]]
        while longest < limit(longest) and lengths[batch[0]] < 2500 and (most is None or len(batch) < most):
            fitting = [
                (
                    max(longest, lengths[one]) * (len(batch) + 1),
                    abs(lengths[one] - longest) * (strategy == "prefer_closest"),
                    place,
                )
                for place, one in enumerate(pool)
                if kinds[one] == kinds[batch[0]] and max(longest, lengths[one]) * (len(batch) + 1) <= limit(longest)
            ]
            if not fitting:
                break
            batch.append(pool.pop(min(fitting)[2]))
            longest = max(longest, lengths[batch[-1]])
        expected.append(batch)
    stream = (
        Item(position, None, num_tokens=length, kind=kind)
        for position, (length, kind) in enumerate(zip(lengths, kinds, strict=True))
    )
    config = Pool(long_threshold=2500, strategy=strategy)
    packs = list(pool_stream(stream, config, max_samples=most, max_tokens=budget))
    assert [[item.position for item in items] for items, *_ in packs] == expected
    assert packs[-1][1] == []


@pytest.mark.parametrize(("halve", "expected"), [(True, [[0, 1], [2]]), (False, [[0, 1, 2]])])
def test_a_long_sample_that_joins_a_batch_halves_what_is_left(halve: bool, expected: list[list[int]]) -> None:
    samples = [Item(place, None, num_tokens=length) for place, length in enumerate((500, 1200, 1300))]
    config = Pool(long_threshold=2500, halve_long=halve)
    packs = pool_stream(iter(samples), config, max_samples=None, max_tokens=4500)
    assert [[item.position for item in items] for items, *_ in packs] == expected
