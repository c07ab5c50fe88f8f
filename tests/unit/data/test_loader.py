"""Caps, keys, faults, reports and the choice of data of a loader."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import Item, PackedLoader, Preparation, UnreadableSample
from cosmos_core.data.packing import LOOKAHEAD, pack_stream
from cosmos_core.data.sampler import EpochSampler, is_loader_state, remaining
from cosmos_core.data.samples import Record
from cosmos_core.errors import Problem, UserError
from tests.unit.data.numbers import Numbers, number_loader, positions_of
from tests.unit.logged import logged


class Told(Numbers):
    """Numbers that say what they are; `bad` ones cannot be read."""

    def __init__(self, count: int, fingerprint: str | None = None, bad: tuple[int, ...] = ()) -> None:
        super().__init__(count)
        self.told, self.bad = fingerprint, bad

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        if index in self.bad:
            raise UnreadableSample(f"number {index}", "odd" if index % 2 else "even")
        return super().get(index, random)

    def get_lazy(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        return -1, 0.0

    @property
    def fingerprint(self) -> str | None:
        return self.told

    @property
    def filtered(self) -> dict[str, int]:
        return {"too short": 3} if self.told else {}


@pytest.mark.parametrize(
    ("limit", "cap", "used"), [(50, None, 50), (50, 40, 40), (40, 50, 40), (None, 45, 45), (None, None, None)]
)
def test_a_pack_obeys_the_smaller_cap_and_tells_its_share(limit: int | None, cap: int | None, used: int | None) -> None:
    packs = list(islice(number_loader(0, 1, max_sequence_length=limit, max_samples_per_batch=6, cap=cap), 20))
    for pack in packs:
        tokens = sum(3 + 7 * item.value[0] % 23 for item in pack.items)
        assert used is None or tokens < used
        assert pack.packing_efficiency == (None if used is None else tokens / used)
    assert max(len(pack.items) for pack in packs) == (6 if used is None else max(len(pack.items) for pack in packs))


def test_the_section_of_a_sample_that_never_fits_is_named() -> None:
    with pytest.raises(UserError) as error:
        list(number_loader(0, 1, cap=10, section="dataloader_val"))
    (problem,) = error.value.problems
    assert problem.key == "model.max_num_tokens_after_packing", "the family's own limit, which is the only one"
    assert "dataloader_val.overlong=skip" in problem.hint


@pytest.mark.parametrize(("limit", "keys"), [(100, "it"), (10, "it and model.max_num_tokens_after_packing")])
def test_only_limits_that_a_sample_exceeds_are_to_be_raised(limit: int, keys: str) -> None:
    with pytest.raises(UserError) as error:
        list(number_loader(0, 1, cap=10, max_sequence_length=limit))
    assert error.value.problems[0].hint.startswith(f"set {keys} above that")


def test_a_record_brings_its_own_key_and_others_get_the_sources() -> None:
    class Records(Numbers):
        def get(self, index: int, random: np.random.Generator) -> Any:
            return Record(f"clip {index}") if index % 2 else (index, 0.0)

    config = DataloaderConfig(dataset=DatasetConfig(type="numbers"), num_workers=0, max_samples_per_batch=3)
    preparation = Preparation(lambda sample: sample, lambda sample: 1)
    loader = PackedLoader(Records(8), config=config, preparation=preparation, rank=0, world=1, epochs=1)
    keys = {item.key for pack in loader for item in pack.items}
    assert keys == {f"clip {index}" if index % 2 else f"number {index}" for index in range(8)}


def test_a_cache_reads_lazily() -> None:
    loader = number_loader(0, 1, source=Told(5), epochs=1, cache="somewhere")
    assert {item.value[0] for pack in loader for item in pack.items} == {-1}


@pytest.mark.parametrize("workers", [0, 1])
def test_what_no_sample_can_pass_ends_the_run_with_its_problems(workers: int) -> None:
    class Refusing(Numbers):
        def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
            raise UserError("not today", [Problem(message="why", key="model.x")])

    with pytest.raises(UserError, match="not today") as error:
        list(number_loader(0, 1, source=Refusing(5), epochs=1, num_workers=workers))
    assert error.value.problems[0].key == "model.x"


def test_other_data_are_refused_and_unknown_ones_are_not() -> None:
    def state(fingerprint: str | None) -> dict[str, Any]:
        return next(iter(number_loader(0, 1, source=Told(37, fingerprint)))).state

    for old, new in (("a", "a"), (None, "a"), ("a", None), (None, None)):
        loader = number_loader(0, 1, source=Told(37, new))
        loader.load_state([state(old)])
        assert loader.state().get("data") == new
        assert next(iter(loader)).state.get("data") == new
    with pytest.raises(UserError, match="has changed") as error:
        number_loader(0, 1, source=Told(37, "b"), section="dataloader_val").load_state([state("a")])
    assert error.value.problems[0].key == "dataloader_val.dataset"


def test_what_was_left_out_skipped_and_packed_is_reported_after_epochs_1_2_4_and_so_on() -> None:
    loader = number_loader(0, 1, source=Told(37, "a", bad=(3, 5, 8)), epochs=4, max_bad_sample_fraction=0.5)
    with logged() as lines:
        packs = list(loader)
        loader.report()
    assert loader.skipped == {"odd": 2, "even": 1}
    left_out = "left out of dataset 'numbers': 3 x too short"
    assert [line.partition(":")[0] for line in lines if left_out in line] == ["after epoch 1", "after epoch 2", "data"]
    assert [line for line in lines if line.startswith("skipped number")] == [
        f"skipped number {index}: {'odd' if index % 2 else 'even'}"
        for index in EpochSampler(37, loader._config.seed, True).permutation(0)
        if index in (3, 5, 8)
    ]
    tokens = sum(3 + 7 * item.value[0] % 23 for pack in packs for item in pack.items)
    share = tokens / (50 * len(packs))
    assert lines[-1] == (
        f"data: packed 136 samples into {len(packs)} sequences of at most 50 tokens: {share:.1%} full, "
        f"{1 - share:.1%} empty; skipped 3 of 37 samples: 2 x odd, 1 x even; {left_out}"
    )


def test_nothing_to_report_is_not_reported() -> None:
    with logged() as lines:
        loader = number_loader(0, 1, epochs=1, max_sequence_length=None, max_samples_per_batch=4)
        loader.report()
        list(loader)
        loader.report()
        number_loader(0, 1).report()
    assert lines == []


@pytest.mark.parametrize(("bad", "limit", "ends"), [(1, 0.1, False), (2, 0.1, True), (1, 0.05, True), (0, 0.0, False)])
def test_at_the_end_of_the_data_the_limit_is_exact(bad: int, limit: float, ends: bool) -> None:
    loader = number_loader(0, 1, source=Told(10, bad=tuple(range(bad))), epochs=1, max_bad_sample_fraction=limit)
    if not ends:
        list(loader)
        return
    with pytest.raises(UserError, match=f"{bad} of 10 samples cannot be used"):
        list(loader)


def test_an_endless_run_ends_four_standard_deviations_above_its_limit() -> None:
    """All n samples are bad: 0.3 n exceeds 4 sqrt(0.7 * 0.3 * n) from n = 38 on."""
    loader = number_loader(0, 1, source=Told(1000, bad=tuple(range(1000))), max_bad_sample_fraction=0.7)
    with pytest.raises(UserError, match="38 of 38 samples"):
        next(iter(loader))


def test_an_endless_run_is_judged_after_twenty_samples() -> None:
    loader = number_loader(0, 1, source=Told(1000, bad=tuple(range(1000))), max_bad_sample_fraction=0.0, shuffle=False)
    with pytest.raises(UserError, match="20 of 20 samples") as error:
        next(iter(loader))
    messages = [problem.message for problem in error.value.problems]
    assert messages == ["10 x even", "10 x odd", *[f"first: number {n}" for n in (0, 1, 10, 11, 12)]]


def test_samples_that_wait_keep_their_order_and_their_number_is_bounded() -> None:
    """A large sample first; of those that do not fit beside it, ten may wait before the pack is closed."""
    stream = (Item(position, None, num_tokens=30) for position in range(40))
    packs = pack_stream(stream, max_samples=None, max_tokens=50)
    first, aside, used = next(packs)
    assert [item.position for item in first] == [0]
    assert (aside, used) == (list(range(1, LOOKAHEAD + 1)), 30)
    assert next(packs)[1] == list(range(2, LOOKAHEAD + 2))


def test_a_sample_must_stay_strictly_below_the_cap() -> None:
    stream = [Item(position, None, num_tokens=25) for position in range(2)]
    assert [len(items) for items, *_ in pack_stream(iter(stream), max_samples=None, max_tokens=50)] == [1, 1]
    assert [len(items) for items, *_ in pack_stream(iter(stream), max_samples=None, max_tokens=51)] == [2]


def test_a_source_may_choose_the_order_of_its_epochs() -> None:
    class Backwards(Numbers):
        def epoch_permutation(self, random: np.random.Generator) -> Any:
            return np.arange(self.count)[::-1]

    loader = number_loader(0, 1, source=Backwards(9), epochs=1)
    assert [n for _, n in sorted((item.position, item.value[0]) for pack in loader for item in pack.items)] == list(
        range(8, -1, -1)
    )
    plain = number_loader(0, 1, source=Backwards(9), epochs=1, shuffle=False)
    assert all(item.value[0] == item.position for pack in plain for item in pack.items)


def test_epochs_begin_where_the_one_before_ends() -> None:
    assert [EpochSampler(5, 0, True).epoch(position) for position in (0, 4, 5, 9, 10)] == [0, 0, 1, 1, 2]
    assert sorted(positions_of(number_loader(1, 2, epochs=1))) == list(range(1, 37, 2))


@pytest.mark.parametrize(
    ("state", "known"),
    [({"world": 1, "frontier": 0, "aside": []}, True), ({"world": 1, "frontier": 0}, False), ([], False)],
)
def test_a_state_of_this_loader_is_known_by_its_entries(state: Any, known: bool) -> None:
    assert is_loader_state(state) is known
    assert is_loader_state({**state, "more": 1} if isinstance(state, dict) else state) is known


def test_the_same_ranks_go_on_with_their_own_states_and_others_deal_them_out() -> None:
    two = [{"world": 2, "frontier": 6, "aside": [0]}, {"world": 2, "frontier": 5, "aside": []}]
    assert [tuple(map(list_of, remaining(two, rank, 2))) for rank in range(2)] == [([0], 6), ([], 5)]
    assert tuple(map(list_of, remaining(two, 0, 1))) == ([0, 5], 6)
    assert [tuple(map(list_of, remaining(two, rank, 3))) for rank in range(3)] == [([0], 6), ([5], 7), ([], 8)]


def list_of(value: Any) -> Any:
    return value if isinstance(value, int) else list(value)
