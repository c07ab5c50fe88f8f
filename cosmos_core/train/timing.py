"""Where a step goes: phases timed by the device's own clock, without waiting for it, and what follows from them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from cosmos_core.plan.gpus import peak_tflops

__all__ = ["PhaseTimes", "Utilisation"]

GIB = 2**30


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
    """What follows from a step's row: share of the peak, and memory. world: of processes, one GPU each."""

    def __init__(self, device: torch.device, world: int) -> None:
        self._device, self._world = device, world
        on_gpu = device.type == "cuda"
        self._peak = peak_tflops(torch.cuda.get_device_name(device)) if on_gpu else None

    def of(self, record: Mapping[str, Any]) -> dict[str, float]:
        """``mfu`` of model FLOPs, where FLOPs and peak are known, and ``memory_gib``: the most reserved on this GPU.

        On a CPU the memory is that of this process.
        """
        memory = (
            torch.cuda.max_memory_reserved(self._device)
            if self._device.type == "cuda"
            else psutil.Process().memory_info().rss
        )
        values = {"memory_gib": memory / GIB}
        if self._peak is not None and record.get("tflop"):
            values["mfu"] = record["tflop"] / record["seconds"] / self._world / self._peak
        return values
