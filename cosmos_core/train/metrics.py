"""Copies a step's metrics from the device without blocking.

It does not affect training.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen

from cosmos_core.distributed.host_copy import HostCopy
from cosmos_core.train.member_metrics import on_host
from cosmos_core.train.nonfinite import MicroBatchLoss
from cosmos_core.train.timing import FIRST_DETAILED, PhaseTimes

__all__ = ["AsyncMetrics", "StepMetrics", "peak_memory"]

GIB = 2**30


@frozen
class StepMetrics:
    """One step on the host. record: everything by name. losses: of this process's micro-batches, or of their parts."""

    record: dict[str, Any]
    losses: list[MicroBatchLoss]


@frozen(eq=False)
class _Pending:
    """values: by these names, then the losses."""

    record: dict[str, Any]
    names: list[str]
    keys: Mapping[str, tuple[str, ...]]
    values: HostCopy
    times: PhaseTimes | None


class AsyncMetrics:
    """Holds the newest step's metrics. `push` starts the copy; `flush` waits for the rest of it."""

    def __init__(self) -> None:
        self._pending: _Pending | None = None

    def push(
        self,
        record: dict[str, Any],
        values: Mapping[str, torch.Tensor],
        losses: Sequence[torch.Tensor],
        keys: Mapping[str, tuple[str, ...]],
        times: PhaseTimes | None = None,
    ) -> None:
        """record: metrics already on the host.

        values: scalars on the device, over all ranks. losses: of this process's micro-batches, or of their parts. keys:
        of the samples of each, by its name. times: of phases.
        """
        stacked = torch.stack([value.detach().double() for value in (*values.values(), *losses)])
        self._pending = _Pending(record, list(values), keys, HostCopy(stacked), times)

    @property
    def ready(self) -> bool:
        """Whether there are metrics, and `flush` would not wait."""
        return self._pending is not None and self._pending.values.is_ready

    def flush(self) -> StepMetrics | None:
        """The metrics that were pushed last; None when they were flushed before."""
        pending, self._pending = self._pending, None
        if pending is None:
            return None
        values, count = pending.values.wait().tolist(), len(pending.names)
        named = dict(zip(pending.names, values, strict=False))
        computed = zip(values[count:], pending.keys.items(), strict=True)
        losses = [MicroBatchLoss(value, keys, name) for value, (name, keys) in computed]
        detailed = pending.times is not None and pending.record.get("step", 0) >= FIRST_DETAILED
        times = pending.times.read() if pending.times is not None and detailed else {}
        return StepMetrics({**pending.record, **on_host(named), "tokens": int(named["tokens"]), **times}, losses)


def peak_memory(device: torch.device) -> float:
    """Most GiB that this process has had: allocated on its device, or resident where that is the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
