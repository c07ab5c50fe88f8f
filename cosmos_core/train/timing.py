"""Where a step goes: phases timed by the device's own clock, without waiting for it, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from cosmos_core.plan.gpus import gpu_of

__all__ = ["FIRST_DETAILED", "PhaseTimes", "Utilisation"]

FIRST_DETAILED = 10
"""Step whose row is the first with share of the peak and phases; earlier ones compile and warm up."""


class PhaseTimes:
    """Seconds of the phases of one step. On an accelerator they are known once its work is finished."""

    def __init__(self, device: torch.device) -> None:
        self._on_device = device.type == "cuda"
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds: dict[str, float] = {}

    def __reduce__(self) -> Any:
        # A loader's worker gets a family with it, and times nothing.
        return PhaseTimes, (torch.device("cpu"),)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is queued or done inside. A phase inside another counts for itself alone."""
        if self._on_device:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            begun = time.perf_counter()
            yield
            self.add(name, time.perf_counter() - begun)

    def add(self, name: str, seconds: float) -> None:
        """Seconds that the host measured."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def read(self) -> dict[str, float]:
        """``time/<phase>``; to be called when the step's work is finished."""
        for name, begin, end in self._events:
            self.add(name, begin.elapsed_time(end) / 1000)
        self._events.clear()
        seconds = dict(self._seconds)
        if "vae" in seconds:
            # Encoding runs inside of forward and backward.
            seconds["forward_backward"] -= seconds["vae"]
        return {f"time/{name}": value for name, value in seconds.items()}


class Utilisation:
    """The share of the peak that a step reached, from step 10 on. world: of processes, one GPU each."""

    def __init__(self, device: torch.device, world: int) -> None:
        self._world = world
        gpu = gpu_of(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self._peak = None if gpu is None else gpu.tflops

    def of(self, record: Mapping[str, Any]) -> dict[str, float]:
        """``mfu`` of model FLOPs; nothing where FLOPs or peak are not known."""
        if self._peak is None or not record.get("tflop") or record["step"] < FIRST_DETAILED:
            return {}
        return {"mfu": record["tflop"] / record["seconds"] / self._world / self._peak}
