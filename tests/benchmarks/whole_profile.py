"""Where the device's time of a run's profiled steps goes: the kernels of its trace by kind, and the dearest by name."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from attrs import frozen

__all__ = ["Kernel", "by_kind", "dearest", "kernels_of", "kind_of"]

KINDS = {
    "attention": r"flash|fmha|sdpa|attention",
    "collectives": r"nccl",
    "copies around collectives": r"chunk_cat|split_with_sizes_copy",
    "products": r"nvjet|gemm|gemv|cutlass|cublas|splitk|triton_tem",
    "optimizer and norm": r"adam|multi_tensor|lpnorm",
    "elementwise, compiled": r"triton_",
    "copies and fills": r"^memcpy|^memset",
}
"""Patterns of kernels' names in any case; the first that is found counts."""
EAGER = "elementwise and others, not compiled"
ON_THE_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of a trace's events."""


@frozen
class Kernel:
    """One launch. begin, end: microseconds."""

    name: str
    begin: float
    end: float

    @property
    def milliseconds(self) -> float:
        """How long it ran."""
        return (self.end - self.begin) / 1e3


def kind_of(name: str) -> str:
    """Kind of a kernel."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), EAGER)


def kernels_of(trace: Path) -> list[Kernel]:
    """All that ran on the device; [] in a trace of a CPU."""
    with gzip.open(trace, "rt", encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    ran = (event for event in events if event.get("ph") == "X" and event.get("cat") in ON_THE_DEVICE)
    return [Kernel(event["name"], event["ts"], event["ts"] + event["dur"]) for event in ran]


def by_kind(kernels: list[Kernel], steps: int) -> list[dict[str, Any]]:
    """Rows of a table, the dearest kind first, then all together and the time in which none ran.

    alone: while kernels of no other kind ran, which is what a step would be shorter by.
    """
    total, calls = defaultdict[str, float](float), Counter[str]()
    for kernel in kernels:
        kind = kind_of(kernel.name)
        total[kind] += kernel.milliseconds
        calls[kind] += 1
    alone, idle = _alone(kernels)
    rows = [
        {
            "kind": kind,
            "kernels a step": calls[kind] / steps,
            "ms a step": time / steps,
            "alone, ms a step": alone[kind] / steps,
            "share %": 100 * time / sum(total.values()),
        }
        for kind, time in sorted(total.items(), key=itemgetter(1), reverse=True)
    ]
    everything = {"kernels a step": len(kernels) / steps, "ms a step": sum(total.values()) / steps}
    return [*rows, {"kind": "all", **everything}, {"kind": "none ran", "ms a step": idle / steps}]


def _alone(kernels: list[Kernel]) -> tuple[dict[str, float], float]:
    """Milliseconds in which kernels of one kind ran alone, by kind, and in which nothing ran between first and last."""
    changes = sorted(
        (at, change, kind_of(kernel.name)) for kernel in kernels for at, change in ((kernel.begin, 1), (kernel.end, -1))
    )
    running: Counter[str] = Counter()
    alone, idle, before = dict.fromkeys([*KINDS, EAGER], 0.0), 0.0, changes[0][0] if changes else 0.0
    for at, change, kind in changes:
        kinds = [name for name, count in running.items() if count]
        if len(kinds) == 1:
            alone[kinds[0]] += (at - before) / 1e3
        elif not kinds:
            idle += (at - before) / 1e3
        running[kind] += change
        before = at
    return alone, idle


def dearest(kernels: list[Kernel], steps: int, count: int = 24) -> list[dict[str, Any]]:
    """Rows of the dearest kernels by name, with their kinds."""
    total, calls = defaultdict[str, float](float), Counter(kernel.name for kernel in kernels)
    for kernel in kernels:
        total[kernel.name] += kernel.milliseconds
    return [
        {"kernel": name[:110], "kind": kind_of(name), "calls a step": calls[name] / steps, "ms a step": time / steps}
        for name, time in sorted(total.items(), key=itemgetter(1), reverse=True)[:count]
    ]
