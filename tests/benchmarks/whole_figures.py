"""Figures of one observed run: medians over its steps, and what saving, stopping and resuming took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from cosmos_core.config import RunConfig
from tests.benchmarks.timing import HARDWARE_TFLOPS
from tests.benchmarks.whole_running import Observed

__all__ = ["figures", "with_efficiency"]


def figures(seen: Observed, steps: int, config: RunConfig, gpus: int) -> dict[str, Any]:
    """Medians over the steps after the first third, which compile and warm up, without those of a profile and a save.

    steps: that count; fewer where there are fewer.
    """
    steps = min(steps, len(seen.rows))
    rows = seen.rows[max(1, steps // 3) : steps]
    columns: dict[str, Any] = {
        "auto took": seen.recomputation,
        "steps": len(rows),
        **(_of_steps(rows, config, gpus) if rows else {}),
    }
    columns["peak GiB"] = ", ".join(f"{value:.1f}" for value in seen.peak_gib)
    columns["first row s"] = seen.first_row or ""
    if seen.earlier and seen.rows:
        columns["first step"] = seen.rows[0]["step"]
    if (size := seen.checkpoint_gb) is not None:
        columns["checkpoint GB"] = size
    if (saved := seen.saved) is not None:
        columns |= saved
        if during := seen.rows[steps:]:
            columns["s a step while saving"] = statistics.median(row["seconds"] for row in during)
    if seen.asked is not None:
        columns["stopped s after SIGTERM"] = seen.ended - seen.asked
    if seen.outcome not in ("done", "enough", "stopped"):
        columns["why"] = seen.last_words
    return columns


def _of_steps(rows: Sequence[Mapping[str, Any]], config: RunConfig, gpus: int) -> dict[str, Any]:
    middle = {name: statistics.median(row[name] for row in rows) for name in ("seconds", "tokens")}
    # Tokens and arithmetic of a step go with each other, so their rates are medians of the steps' own.
    busy = [row["tflop"] / row["seconds"] for row in rows]
    working = [row["tflop"] / (row["seconds"] - row["data_wait"]) for row in rows]
    packs, sharing = config.trainer.grad_accum_iter, config.model.parallelism.context_parallel_shard_degree
    hits = [row["cache_hit_rate"] for row in rows if "cache_hit_rate" in row]
    return {
        "s a step": middle["seconds"],
        "s a pack": middle["seconds"] / packs,
        "tokens a step": middle["tokens"],
        "tokens/s a GPU": statistics.median(row["tokens"] / row["seconds"] for row in rows) / gpus,
        "packs filled": statistics.mean(row["pack_filled"] for row in rows),
        **_data_wait(rows),
        **({"cache hits %": 100 * statistics.mean(hits)} if hits else {}),
        "TFLOP a pack": statistics.median(row["tflop"] for row in rows) / packs / gpus * sharing,
        "MFU %": 100 * statistics.median(busy) / gpus / HARDWARE_TFLOPS,
        "MFU % but for data": 100 * statistics.median(working) / gpus / HARDWARE_TFLOPS,
    }


def _data_wait(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Its share of all steps together and of the median step, and how much of it was for other ranks' packs."""
    seconds, waited = ([row[name] for row in rows] for name in ("seconds", "data_wait"))
    detailed = [row for row in rows if "rank_wait" in row and row["data_wait"]]
    columns = {
        "data wait s": statistics.median(waited),
        "data wait %": 100 * sum(waited) / sum(seconds),
        "median %": statistics.median(100 * wait / time for wait, time in zip(waited, seconds, strict=True)),
    }
    if detailed:
        for_ranks = sum(row["rank_wait"] for row in detailed) / sum(row["data_wait"] for row in detailed)
        columns["for other ranks, % of the wait"] = 100 * for_ranks
    return columns


def with_efficiency(row: dict[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """With the rate beside that of the same mode on the fewest GPUs, where there is one."""
    name, rate = "tokens/s a GPU", "efficiency %"
    first = next((other for other in earlier if other["mode"] == row["mode"] and name in other), None)
    return row if first is None or name not in row else {**row, rate: 100 * row[name] / first[name]}
