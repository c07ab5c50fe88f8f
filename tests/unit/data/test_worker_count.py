"""Loader workers size themselves by the rank's share of the cores and by what keeps up."""

from __future__ import annotations

import os
from multiprocessing import active_children
from pathlib import Path

import pytest

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.config.cores import cores
from cosmos_core.data import PackedLoader, Preparation
from cosmos_core.data.worker_count import MAX_WORKERS, workers_for, workers_that_keep_up
from tests.unit.data.numbers import Numbers


@pytest.fixture
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))


def _of_ranks(monkeypatch: pytest.MonkeyPatch, here: int, world: int) -> None:
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": here}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize(
    ("ranks_here", "needed", "workers"),
    [(1, None, 15), (4, None, 3), (4, 2, 2), (16, None, 1), (64, 9, 1)],
    ids=["alone", "shared", "fewer keep up", "a core each", "more ranks than cores"],
)
def test_workers_are_the_ranks_share_of_this_nodes_cores_less_its_own(
    sixteen_cores: None, monkeypatch: pytest.MonkeyPatch, ranks_here: int, needed: int | None, workers: int
) -> None:
    _of_ranks(monkeypatch, ranks_here, 64)
    assert workers_for("auto", needed) == workers


def test_one_pass_has_no_more_workers_than_its_rank_has_samples(sixteen_cores: None) -> None:
    config = DataloaderConfig(dataset=DatasetConfig(type="numbers"), max_samples_per_batch=1)
    preparation, before = Preparation(lambda sample: sample, lambda sample: 1), len(active_children())
    packs = iter(PackedLoader(Numbers(5), config=config, preparation=preparation, rank=0, world=2, epochs=1))
    next(packs)
    assert len(active_children()) - before == 3


def test_a_number_that_was_set_is_kept(sixteen_cores: None) -> None:
    assert [workers_for(number) for number in (0, 3, 99)] == [0, 3, 99]


def test_no_machine_gives_a_rank_more_than_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(256)))
    assert workers_for("auto") == MAX_WORKERS


@pytest.mark.parametrize(
    ("quota", "expected"), [("max", 16), ("-1", 16), ("400000", 4), ("50000", 1), ("6400000", 16), ("", 16)]
)
def test_the_quota_of_a_control_group_counts_as_cores(
    sixteen_cores: None, tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second/cpu.max").write_text(f"{quota} 100000\n")
    (tmp_path / "first/cpu").mkdir(parents=True)
    (tmp_path / "first/cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "first/cpu/cpu.cfs_period_us").write_text("100000\n")
    assert [cores(tmp_path / version) for version in ("second", "first", "absent")] == [expected, expected, 16]


def test_workers_keep_up_with_some_headroom() -> None:
    assert workers_that_keep_up(core_seconds=2.0, step_seconds=1.0) == 3
    assert workers_that_keep_up(core_seconds=0.0, step_seconds=1.0) == 1
    assert workers_that_keep_up(core_seconds=500.0, step_seconds=1.0) == MAX_WORKERS
