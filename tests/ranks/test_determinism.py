"""Two ranks with loader workers repeat to the last bit under `trainer.deterministic`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from cosmos_core.train.determinism import deterministic_kernels
from cosmos_vfm.sizes import MODEL_SIZES
from tests.ranks.forked import on_ranks
from tests.ranks.test_meshes import TWELVE_HEADS, Setup, place, trained

__all__ = ["place"]


def train_twice(folder: Path, root: Path) -> None:
    """Of one pack on both ranks, and of adapters on sharded weights."""
    MODEL_SIZES["tiny"] = TWELVE_HEADS
    workers = ("trainer.deterministic=true", "dataloader_train.num_workers=2")
    with deterministic_kernels(True):
        for setup in (
            Setup("generator", (1, 1, 2), "selective"),
            Setup("reasoner", (2, 1, 1), "full", lora=True, pieces=2),
        ):
            first, second = (trained(setup, root, *workers) for _ in range(2))
            assert first["told"] == second["told"], setup.label
            assert all(torch.equal(second["end"][name], value) for name, value in first["end"].items()), setup.label
            assert any(not torch.equal(first["start"][name], value) for name, value in first["end"].items())
    (folder / f"equal_{dist.get_rank()}").touch()


@pytest.mark.ranks
def test_two_ranks_repeat_to_the_last_bit(place: Path, tmp_path: Path) -> None:
    on_ranks(train_twice, 2, tmp_path, place)
    assert len(list(tmp_path.glob("equal_*"))) == 2
