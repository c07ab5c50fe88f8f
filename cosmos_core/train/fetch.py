"""Fetches the micro-batches of a step. Collective."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch
from attrs import frozen

from cosmos_core.data.loader import MicroBatch
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import sum_over_data
from cosmos_core.errors import UserError
from cosmos_core.train.agreement import raise_if_any_rank_failed
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.parts import Part

__all__ = ["StepBatches", "fetch"]


@frozen(eq=False)
class StepBatches:
    """parts: of all micro-batches, on the device. loss_denominator: what they count for, on all ranks together.

    loader_state: to save after the step. samples: key and member of the mixture of each, one list a micro-batch.
    packing_efficiency: mean fraction of the token cap that is used, None without a cap. stopping: whether any rank was
    asked to stop. saving, overdue: whether any rank still saves, or should.

    waited: seconds that this rank waited here for the others. waits: of every rank, a step ago.
    """

    parts: list[Part]
    loss_denominator: float
    loader_state: dict[str, Any]
    samples: list[list[tuple[str, str]]]
    packing_efficiency: float | None
    stopping: bool
    saving: bool
    overdue: bool
    waited: float
    waits: list[float]

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """Of the samples of each part that counts, by what messages call it."""
        each, keys = len(self.parts) // len(self.samples), {}
        for place, part in enumerate(self.parts):
            if part.weight:
                of_pack = f", part {place % each}" if each > 1 else ""
                keys[f"micro-batch {place // each}{of_pack}"] = tuple(item.key for item in part.items)
        return keys

    @property
    def datasets(self) -> list[tuple[str, ...]]:
        """Members of the mixture that they come from, alike."""
        return [tuple(item.dataset for item in part.items) for part in self.parts if part.weight]


def fetch(
    micro_batches: Iterator[MicroBatch],
    count: int,
    family: ModelFamily,
    mesh: Mesh,
    *,
    stopping: bool = False,
    saving: bool = False,
    overdue: bool = False,
    waited: float = 0.0,
) -> StepBatches:
    """The next `count` micro-batches, which are collated. waited: by this rank, in the last call.

    stopping: whether this rank was asked to stop. saving, overdue: whether it still saves, or knows that a save is due.
    Raises CollectiveError on every rank when one of them cannot use its data.
    """
    fetched: list[MicroBatch] = []
    failure: UserError | None = None
    try:
        for _ in range(count):
            pack = next(micro_batches)
            fetched.append(replace(pack, parts=tuple(_on(mesh.device, part) for part in pack.parts)))
    except UserError as error:
        failure = error
    # On the host, so that it does not wait for the device's last update.
    together = list(chain.from_iterable(pack.parts for pack in fetched))
    local = [sum(family.loss_denominator(part.batch) for part in together if part.weight)]
    local += map(float, (failure is not None, stopping, saving, overdue))
    local += [waited * mesh.degrees.context if rank == mesh.rank else 0.0 for rank in range(mesh.world)]
    begun = time.perf_counter()
    totals = sum_over_data(torch.tensor(local, dtype=torch.float64), mesh).tolist()
    denominator, failures, stops, saves, due, *waits = totals
    met = time.perf_counter()
    if failures:
        raise_if_any_rank_failed(failure, mesh)
    efficiencies = [pack.packing_efficiency for pack in fetched if pack.packing_efficiency is not None]
    return StepBatches(
        parts=together,
        loss_denominator=denominator,
        loader_state=fetched[-1].state,
        samples=[[(item.key, item.dataset) for item in pack.items] for pack in fetched],
        packing_efficiency=sum(efficiencies) / len(efficiencies) if efficiencies else None,
        stopping=stops > 0,
        saving=saves > 0,
        overdue=due > 0,
        waited=met - begun,
        waits=waits,
    )


def _on(device: torch.device, part: Part) -> Part:
    return replace(part, batch=part.batch.to(device))
