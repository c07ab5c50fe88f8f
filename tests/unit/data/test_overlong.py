"""Samples longer than a pack, under each policy, and what is counted."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import PackedLoader, Preparation, UnreadableSample
from cosmos_core.errors import UserError
from tests.unit.data.numbers import Numbers
from tests.unit.logged import logged


def shorten(sample: Any, value: Any, policy: str, max_tokens: int) -> Any:
    """To the most that fits; number 7 cannot be shortened."""
    if sample[0] == 7:
        raise UnreadableSample("number 7", "it is all text")
    return policy, max_tokens


def num_tokens(value: Any) -> int:
    """Sample i has i + 1 tokens; a shortened one as many as it was shortened to."""
    return value[1] if isinstance(value[0], str) else value[0] + 1


def loader_of(count: int, overlong: str, **options: Any) -> PackedLoader:
    """Numbers with 1, 2, 3, ... tokens; fewer than 8 fit into a pack."""
    settings = {"max_sequence_length": 8, "num_workers": 0, "shuffle": False, **options}
    return PackedLoader(
        Numbers(count),
        config=DataloaderConfig(dataset=DatasetConfig(type="numbers"), overlong=overlong, **settings),
        preparation=Preparation(lambda sample: sample, num_tokens, shorten=shorten),
        rank=0,
        world=1,
        epochs=1,
    )


def positions(loader: PackedLoader) -> list[int]:
    return sorted(item.position for pack in loader for item in pack.items)


def test_by_default_it_ends_the_run_with_its_name() -> None:
    with pytest.raises(UserError, match="larger than a whole micro-batch") as refused:
        positions(loader_of(10, "error"))
    [problem] = refused.value.problems
    assert problem.message == "sample number 7 takes 8 tokens and can never fit under 8"
    assert problem.key == "dataloader_train.max_sequence_length"
    assert "dataloader_train.overlong=skip" in problem.hint


@pytest.mark.parametrize(("packing", "fitting"), [("fill", 7), ("pool", 8)])
def test_it_is_left_out_counted_and_never_takes_part_in_the_limit_of_bad_samples(packing: str, fitting: int) -> None:
    loader = loader_of(10, "skip", packing=packing, max_bad_sample_fraction=0.0)
    with logged() as lines:
        assert positions(loader) == list(range(fitting))
        loader.report()
    assert f"skipped number 9 (10 tokens, fewer than {fitting + 1} fit): longer than a pack" in lines
    assert any(f"skipped {10 - fitting} of 10 samples: {10 - fitting} x longer than a pack" in line for line in lines)


@pytest.mark.parametrize("policy", ["resize", "truncate_answer"])
def test_it_is_shortened_by_the_family_or_left_out_with_the_reason(policy: str) -> None:
    loader = loader_of(10, policy)
    with logged() as lines:
        packs = list(loader)
        loader.report()
    values = {item.position: item.value for pack in packs for item in pack.items}
    assert sorted(values) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert values[8] == (policy, 7)
    assert loader.skipped == {"longer than a pack, and it is all text": 1}
    assert any("shortened 2 of 10 samples" in line for line in lines)


def test_a_run_of_nothing_else_ends() -> None:
    loader = loader_of(12, "skip", max_sequence_length=1)
    loader._end = None
    with pytest.raises(UserError, match="all samples are skipped") as refused:
        next(iter(loader))
    assert refused.value.problems[0].message == "12 x longer than a pack"


def test_what_is_left_out_does_not_come_back_at_a_resume() -> None:
    whole = list(loader_of(10, "skip"))
    resumed = loader_of(10, "skip")
    resumed.load_state([whole[2].state])
    rest = [item.position for pack in resumed for item in pack.items]
    assert rest == [item.position for pack in whole[3:] for item in pack.items]


def test_counts_are_of_samples_of_the_data_however_often_they_come() -> None:
    class Broken(Numbers):
        def get(self, index: int, random: Any) -> Any:
            raise UnreadableSample(f"number {index}", "broken")

    config = DataloaderConfig(
        dataset=DatasetConfig(type="numbers"), max_samples_per_batch=1, num_workers=0, max_bad_sample_fraction=0.05
    )
    preparation = Preparation(lambda sample: sample, lambda sample: 1)
    loader = PackedLoader(Broken(12), config=config, preparation=preparation, rank=0, world=1)
    with pytest.raises(UserError, match="12 of 12 samples cannot be used") as refused:
        list(islice(loader, 1))
    assert refused.value.problems[0].message == "12 x broken"
