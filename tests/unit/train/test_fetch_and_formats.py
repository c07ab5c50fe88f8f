"""What the micro-batches of a step count for, and checkpoints of a newer version."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import local_mesh
from cosmos_core.errors import UserError
from cosmos_core.train import checkpointing
from cosmos_core.train.fetch import fetch
from cosmos_core.train.parts import collated
from tests.unit.train.runs import ready


def test_large_denominators_are_added_exactly() -> None:
    """2**24 + 1 is no number in float32."""
    loaded = (MicroBatch([Item(number, 2.0**23 + number)], {"at": number}, None) for number in range(9))

    def collate(items: list[Item]) -> SimpleNamespace:
        batch = SimpleNamespace(tokens=items[0].value)
        batch.to = lambda device: batch
        return batch

    family: Any = SimpleNamespace(collate=collate, loss_denominator=lambda batch: batch.tokens)
    packs = (collated(pack, family, 1) for pack in loaded)
    step = fetch(packs, 2, family, local_mesh())
    assert step.loss_denominator == 2.0**24 + 1
    assert (step.loader_state, step.packing_efficiency, len(step.parts)) == ({"at": 1}, None, 2)
    assert next(packs).state == {"at": 2}


def test_a_checkpoint_of_a_newer_version_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(checkpointing, "TRAINER_FORMAT", checkpointing.TRAINER_FORMAT + 1)
        ready(tmp_path, "trainer.max_iter=2")[0].train()
    with pytest.raises(UserError, match="newer"):
        ready(tmp_path)
