"""A step's figures on their way from the device to the log, so that nobody waits for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cosmos_core.train.nonfinite import MicroBatch

__all__ = ["PendingRow"]


class PendingRow:
    """The row of one step. known: what the host knows already. figures: scalars by name, on the device.

    losses: of this rank's micro-batches, scalars on the device. keys: of their samples. Copying begins at once; `row`
    and `micro_batches` wait only for what the device has not reached yet.
    """

    def __init__(
        self,
        known: dict[str, Any],
        figures: dict[str, torch.Tensor],
        losses: Sequence[torch.Tensor] = (),
        keys: Sequence[tuple[str, ...]] = (),
    ) -> None:
        self._known, self._names, self._keys = known, list(figures), keys
        values = torch.stack([value.detach().double() for value in (*figures.values(), *losses)])
        self._arrived: torch.cuda.Event | None = None
        self._values = values
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    @property
    def step(self) -> int:
        """Number of the step."""
        return int(self._known["step"])

    @property
    def arrived(self) -> bool:
        """Whether `row` would not wait."""
        return self._arrived is None or self._arrived.query()

    def row(self) -> dict[str, Any]:
        """Everything by name."""
        figures = dict(zip(self._names, self._read(), strict=False))
        return {**self._known, **figures, "tokens": int(figures["tokens"])}

    def micro_batches(self) -> list[MicroBatch]:
        """This rank's micro-batches."""
        losses = self._read()[len(self._names) :]
        return [MicroBatch(loss, keys) for loss, keys in zip(losses, self._keys, strict=True)]

    def _read(self) -> list[float]:
        if self._arrived is not None:
            self._arrived.synchronize()
        values: list[float] = self._values.tolist()
        return values
