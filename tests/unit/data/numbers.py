"""A dataset of numbers, each with a random draw, and a loader of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cosmos_core.config import DataloaderConfig, DatasetConfig
from cosmos_core.data import MapSource, MicroBatch, PackedLoader, Preparation

__all__ = ["Numbers", "number_loader", "positions_of"]


class Numbers(MapSource):
    """Sample i is (i, a random draw)."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, random: np.random.Generator) -> tuple[int, float]:
        return index, float(random.random())

    def key(self, index: int) -> str:
        return f"number {index}"


def number_loader(
    rank: int,
    world: int,
    *,
    source: MapSource | None = None,
    epochs: int | None = None,
    cap: int | None = None,
    section: str = "dataloader_train",
    accepts: bool = False,
    **options: Any,
) -> PackedLoader:
    """Of 37 numbers with 3 to 25 tokens each, 50 tokens to a pack."""
    settings = {"max_sequence_length": 50, "num_workers": 0, **options}
    return PackedLoader(
        source or Numbers(37),
        config=DataloaderConfig(
            dataset=DatasetConfig(type="numbers", changed="accept" if accepts else "refuse"), **settings
        ),
        preparation=Preparation(lambda sample: sample, lambda sample: 3 + 7 * sample[0] % 23),
        rank=rank,
        world=world,
        epochs=epochs,
        cap=cap,
        section=section,
    )


def positions_of(packs: Iterable[MicroBatch]) -> list[int]:
    """Of all samples, in order."""
    return [item.position for pack in packs for item in pack.items]
