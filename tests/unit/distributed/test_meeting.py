"""Ranks meet under one new name, whatever those of an earlier start left in the store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from cosmos_core.distributed.meeting import meeting

WORLD = 3
SOON = timedelta(seconds=20)


def started(store: dist.Store, ranks: tuple[int, ...]) -> set[str]:
    """The names under which they meet; started in this order."""
    with ThreadPoolExecutor(WORLD) as threads:
        return set(threads.map(lambda rank: meeting(store, rank, WORLD, SOON), ranks))


def test_every_start_meets_under_a_name_of_its_own() -> None:
    store = dist.HashStore()
    names = [started(store, ranks) for ranks in ((0, 1, 2), (2, 1, 0), (1, 2, 0))]
    assert [len(name) for name in names] == [1, 1, 1]
    assert len(set.union(*names)) == 3


@pytest.mark.parametrize("died", [0, 1])
def test_ranks_that_died_before_they_met_are_not_waited_for(died: int) -> None:
    store = dist.HashStore()
    with pytest.raises(dist.DistStoreError):
        meeting(store, died, WORLD, timedelta(seconds=0.2))
    assert len(started(store, (1, 2, 0))) == 1
