"""Copies a step's metrics from the device without blocking.

It does not affect training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from attrs import frozen

from cosmos_core.train.nonfinite import MicroBatchLoss

__all__ = ["AsyncMetrics", "StepMetrics"]


@frozen
class StepMetrics:
    """One step on the host. record: everything by name. losses: of this process's micro-batches."""

    record: dict[str, Any]
    losses: list[MicroBatchLoss]


class AsyncMetrics:
    """Holds the newest step's metrics. `push` starts the copy; `flush` waits for the rest of it."""

    def __init__(self) -> None:
        self._record: dict[str, Any] | None = None
        self._names: list[str] = []
        self._keys: Sequence[tuple[str, ...]] = ()
        self._values = torch.empty(0)
        self._copied: torch.cuda.Event | None = None

    def push(
        self,
        record: dict[str, Any],
        values: Mapping[str, torch.Tensor],
        losses: Sequence[torch.Tensor],
        keys: Sequence[tuple[str, ...]],
    ) -> None:
        """record: metrics already on the host.

        values: scalars on the device, over all ranks. losses, keys: of this process's micro-batches.
        """
        self._record, self._names, self._keys = record, list(values), keys
        stacked = torch.stack([value.detach().double() for value in (*values.values(), *losses)])
        self._values, self._copied = stacked, None
        if stacked.is_cuda:
            self._values = torch.empty_like(stacked, device="cpu", pin_memory=True)
            self._values.copy_(stacked, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()

    @property
    def ready(self) -> bool:
        """Whether there are metrics, and `flush` would not wait."""
        return self._record is not None and (self._copied is None or self._copied.query())

    def flush(self) -> StepMetrics | None:
        """The metrics that were pushed last; None when they were flushed before."""
        record, self._record = self._record, None
        if record is None:
            return None
        if self._copied is not None:
            self._copied.synchronize()
        values = self._values.tolist()
        named = dict(zip(self._names, values, strict=False))
        losses = [
            MicroBatchLoss(value, keys) for value, keys in zip(values[len(self._names) :], self._keys, strict=True)
        ]
        return StepMetrics({**record, **named, "tokens": int(named["tokens"])}, losses)
