"""Fifty steps on one repeated batch at full depth: ``python -m tests.benchmarks.fit_vfm nano_lora mini_full``.

Prints the time of a step, its memory, and whether the losses fall. ``--smoke`` uses small sizes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch
from attrs import evolve

from cosmos_core.distributed import Mesh, process_group
from cosmos_core.plan import Degrees
from cosmos_vfm.sizes import MODEL_SIZES, NetworkConfig
from tests.benchmarks.timing import GIB, product_tflops, show, synchronise
from tests.benchmarks.vfm_case import CASES, Case
from tests.benchmarks.vfm_ours import Ours

__all__ = ["fit", "main"]

MINI = evolve(MODEL_SIZES["nano"], hidden=2048, layers=28, heads=16, mlp=6144)
"""A Mixture-of-Transformers of Qwen3-VL-2B's shape."""
RUNS: dict[str, tuple[NetworkConfig, bool]] = {"nano_lora": (MODEL_SIZES["nano"], True), "mini_full": (MINI, False)}
WARM_UP = 5


def fit(
    network: NetworkConfig, case: Case, mesh: Mesh, *, lora: bool, recompute: str, steps: int, compiled: bool
) -> Any:
    """One row of metrics."""
    begun = time.perf_counter()
    ours = Ours(network, mesh, recompute=recompute, compiled=compiled, lora=lora)
    synchronise()
    print(f"built in {time.perf_counter() - begun:.1f} s", flush=True)
    step, losses, seconds = ours.stepper(case, repeat=True), [], []
    for _ in range(steps):
        synchronise()
        begun = time.perf_counter()
        losses.append(step()["loss"])
        synchronise()
        seconds.append(time.perf_counter() - begun)
    trained = sum(value.numel() for value in ours.model.parameters() if value.requires_grad)
    total = sum(value.numel() for value in ours.model.parameters())
    return {
        "trained of all parameters": f"{trained:,} of {total:,}",
        "pack": f"{case.clips} x ({case.text} text + {case.vision} vision)",
        "recompute": recompute,
        "s a step": statistics.median(seconds[WARM_UP:]),
        "first step s": seconds[0],
        "peak GiB": torch.cuda.max_memory_allocated() / GIB if torch.cuda.is_available() else 0.0,
        "first loss": losses[0],
        "last loss": losses[-1],
        "lowest of the last ten": min(losses[-10:]),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", choices=RUNS)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--recompute", default="selective")
    options = parser.parse_args()
    with process_group(Degrees(replicate=1, shard=1, context=1), mixed_precision=torch.cuda.is_available()) as mesh:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        print(f"device: {device}; torch {torch.__version__}; product {product_tflops():.0f} TFLOP/s", flush=True)
        for name in options.runs:
            network, lora = RUNS[name]
            case = CASES["256p"]
            if options.smoke:
                network, case = evolve(MODEL_SIZES["tiny"], heads=4, kv_heads=2), CASES["smoke"]
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            compiled = not options.smoke
            row = fit(
                network, case, mesh, lora=lora, recompute=options.recompute, steps=options.steps, compiled=compiled
            )
            show(f"{name}, {device}", [row])


if __name__ == "__main__":
    main()
