"""Fetches the micro-batches of a step. Collective."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from attrs import frozen

from cosmos_core.data.loader import MicroBatch
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import sum_over_data
from cosmos_core.errors import UserError
from cosmos_core.train.agreement import raise_if_any_rank_failed
from cosmos_core.train.ahead import collated
from cosmos_core.train.family import ModelFamily

__all__ = ["StepBatches", "fetch"]


@frozen(eq=False)
class StepBatches:
    """batches: collated and on the device. loss_denominator: what all of them count for, on all ranks together.

    loader_state: to save after the step. keys: of the samples, one tuple per micro-batch. datasets: members of the
    mixture that they come from, alike. packing_efficiency: mean fraction of the token cap that is used, None without a
    cap. stopping: whether any rank was asked to stop. saving, overdue: whether any rank still saves, or should.

    waited: seconds that this rank waited here for the others. waits: of every rank, a step ago.
    """

    batches: list[Any]
    loss_denominator: float
    loader_state: dict[str, Any]
    keys: list[tuple[str, ...]]
    datasets: list[tuple[str, ...]]
    packing_efficiency: float | None
    stopping: bool
    saving: bool
    overdue: bool
    waited: float
    waits: list[float]

    @property
    def samples(self) -> list[list[tuple[str, str]]]:
        """Key and member of each sample, one list a micro-batch."""
        return [list(zip(*names, strict=True)) for names in zip(self.keys, self.datasets, strict=True)]


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
    """The next `count` micro-batches. waited: by this rank, in the last call.

    stopping: whether this rank was asked to stop. saving, overdue: whether it still saves, or knows that a save is due.
    Raises CollectiveError on every rank when one of them cannot use its data.
    """
    fetched: list[MicroBatch] = []
    batches: list[Any] = []
    failure: UserError | None = None
    try:
        for _ in range(count):
            pack = collated(next(micro_batches), family)
            batches.append(pack.batch.to(mesh.device))
            fetched.append(replace(pack, batch=None))
    except UserError as error:
        failure = error
    # On the host, so that it does not wait for the device's last update.
    local = [sum(family.loss_denominator(batch) for batch in batches)]
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
        batches=batches,
        loss_denominator=denominator,
        loader_state=fetched[-1].state,
        keys=[tuple(item.key for item in pack.items) for pack in fetched],
        datasets=[tuple(item.dataset for item in pack.items) for pack in fetched],
        packing_efficiency=sum(efficiencies) / len(efficiencies) if efficiencies else None,
        stopping=stops > 0,
        saving=saves > 0,
        overdue=due > 0,
        waited=met - begun,
        waits=waits,
    )
