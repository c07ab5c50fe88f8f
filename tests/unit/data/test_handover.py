"""What a loader worker hands over arrives as it was, and keeps few files open."""

from __future__ import annotations

import os
from itertools import islice

import torch

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import PackedLoader, Preparation
from tests.unit.data.numbers import Numbers

SENT = (
    torch.arange(12).view(3, 4).T,
    torch.tensor([[True], [False]]),
    torch.tensor(2.5),
    torch.zeros(0, 768, dtype=torch.uint8),
    torch.full((5,), 1.5, dtype=torch.bfloat16),
    torch.arange(200_000) % 251,
    torch.full((70_000,), 7, dtype=torch.uint8),
)


def test_small_tensors_come_by_value_and_large_ones_in_shared_memory() -> None:
    config = DataloaderConfig(dataset=DatasetConfig(type="numbers"), num_workers=1, max_samples_per_batch=1)
    preparation = Preparation(lambda sample: [value.clone() for value in SENT], lambda sample: 1)
    packs = iter(PackedLoader(Numbers(40), config=config, preparation=preparation, rank=0, world=1))
    next(packs)
    before = len(os.listdir("/proc/self/fd"))
    kept = [pack.items[0].value for pack in islice(packs, 20)]
    # Of each sample the two large tensors, and the one of a type that arrays do not have.
    assert len(os.listdir("/proc/self/fd")) - before <= 3 * len(kept) + 5
    for values in kept:
        for value, sent in zip(values, SENT, strict=True):
            assert (value.dtype, value.shape, torch.equal(value, sent)) == (sent.dtype, sent.shape, True)
            value.fill_(0)  # It may be written to.
        assert [value.is_shared() for value in values] == [False, False, False, False, True, True, True]
