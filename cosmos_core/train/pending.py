"""A step's figures on their way from the device to the log, so that nobody waits for them."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["PendingRow"]


class PendingRow:
    """The row of one step. known: what the host knows already. figures: scalars by name, on the device.

    Copying begins at once; `row` waits only for what the device has not reached yet.
    """

    def __init__(self, known: dict[str, Any], figures: dict[str, torch.Tensor]) -> None:
        self._known, self._names = known, list(figures)
        values = torch.stack([value.detach().double() for value in figures.values()])
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
        if self._arrived is not None:
            self._arrived.synchronize()
        figures = dict(zip(self._names, self._values.tolist(), strict=True))
        return {**self._known, **figures, "tokens": int(figures["tokens"])}
