"""Clocks, ceilings and tables that the step benchmarks share."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch

__all__ = [
    "GIB",
    "HARDWARE_TFLOPS",
    "alternate",
    "clear",
    "peak_gib",
    "product_tflops",
    "profiled",
    "show",
    "synchronise",
    "timed",
]

GIB = 2**30
HARDWARE_TFLOPS = 989.0
"""Dense bf16 products of an H100 or H200, as its data sheet says."""


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(step: Callable[[], Any], count: int) -> list[float]:
    """Seconds of each of `count` steps that follow each other as in a run: the host waits for the device at the end."""
    synchronise()
    clock = _clock()
    marks = [clock()]
    for _ in range(count):
        step()
        marks.append(clock())
    synchronise()
    return [_between(first, second) for first, second in pairwise(marks)]


def _clock() -> Callable[[], Any]:
    """The device's own where there is one."""
    if not torch.cuda.is_available():
        return time.perf_counter

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return mark


def _between(first: Any, second: Any) -> float:
    return float(first.elapsed_time(second)) / 1e3 if isinstance(first, torch.cuda.Event) else second - first


def alternate(steps: dict[str, Callable[[], Any]], count: int) -> dict[str, dict[str, float]]:
    """Each contender timed in two halves, in the order A B ... B A; median and 90th percentile in milliseconds."""
    print(f"timing {', '.join(steps)}", flush=True)
    order = [*steps, *reversed(steps)]
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for name in order:
        seconds[name] += timed(steps[name], count // 2)
    return {
        name: {"ms": 1e3 * statistics.median(values), "p90": 1e3 * statistics.quantiles(values, n=10)[-1]}
        for name, values in seconds.items()
    }


def peak_gib(step: Callable[[], Any]) -> float:
    """Most memory allocated during one step, in GiB; what others hold already counts. 0 without a device."""
    if not torch.cuda.is_available():
        step()
        return 0.0
    synchronise()
    torch.cuda.reset_peak_memory_stats()
    step()
    synchronise()
    return torch.cuda.max_memory_allocated() / GIB


def product_tflops(rows: int = 45_056, inner: int = 4096, columns: int = 12_288) -> float:
    """Bf16 matrix products on random data, TFLOP/s; 0 without an accelerator."""
    if not torch.cuda.is_available():
        return 0.0
    a = torch.randn(rows, inner, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(inner, columns, device="cuda", dtype=torch.bfloat16)
    timed(lambda: a @ b, 5)
    return 2 * rows * inner * columns / statistics.median(timed(lambda: a @ b, 20)) / 1e12


def show(title: str, rows: Iterable[dict[str, Any]]) -> None:
    """A Markdown table, and a JSON line for every row."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(f"\n### {title}\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(_cell(row.get(column, "")) for column in columns) + " |")
    print()
    for row in rows:
        print(json.dumps({"table": title, **row}), flush=True)


def clear() -> None:
    """Give memory that nothing holds back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def profiled(step: Callable[[], Any], title: str) -> None:
    """Show the dearest kernels of one step, after the sum of all, and what the host spends its time on."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        step()
        synchronise()
    kernels = [one for one in found.key_averages() if one.device_type == DeviceType.CUDA and not one.is_user_annotation]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    total = sum(event.self_device_time_total for event in kernels) or 1.0
    rows = [{"kernel": "all", "calls": sum(event.count for event in kernels), "ms": total / 1e3, "share %": 100.0}]
    rows += [
        {
            "kernel": event.key[:110],
            "calls": event.count,
            "ms": event.self_device_time_total / 1e3,
            "share %": 100 * event.self_device_time_total / total,
        }
        for event in kernels[:32]
    ]
    show(f"where the time goes, {title}", rows)
    calls = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
    rows = [{"host": event.key[:80], "calls": event.count, "ms": event.self_cpu_time_total / 1e3} for event in calls]
    show(f"where the host's time goes, profiled, {title}", rows[:14])


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
