"""Memory, temperature, power and load of every rank's device."""

from __future__ import annotations

import csv
from typing import Any

import psutil
import torch

from cosmos_core.builtin.config import DeviceMonitor
from cosmos_core.distributed.reduce import gather_objects
from cosmos_core.train.callback import Callback
from cosmos_core.train.trainer import Trainer

__all__ = ["DeviceMonitorCallback"]

GIB = 2**30
COLUMNS = (
    "step",
    "rank",
    "cpu_mem_gb",
    "peak_gpu_mem_gb",
    "peak_gpu_mem_reserved_gb",
    "gpu_mem_used_gb",
    "gpu_mem_free_gb",
    "temperature_c",
    "power_w",
    "utilisation_percent",
)


class DeviceMonitorCallback(Callback):
    """``prof_data.csv``, one row per rank, and ``summary.csv`` with minimum, mean and maximum of the last reading."""

    config: DeviceMonitor

    def step_end(self, trainer: Trainer) -> None:
        """Read every `every_n` steps."""
        if trainer.step % self.config.every_n == 0:
            self._read(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Read once more, so that short runs have at least one row."""
        if trainer.step % self.config.every_n:
            self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        rows = gather_objects(
            {"step": trainer.step, "rank": trainer.mesh.rank, **_reading(trainer.mesh.device)}, trainer.mesh
        )
        if not trainer.is_main:
            return
        path = self.context.folder / "prof_data.csv"
        known = path.is_file()
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            if not known:
                writer.writeheader()
            writer.writerows(rows)
        self._summarise(rows)

    def _summarise(self, rows: list[dict[str, Any]]) -> None:
        with (self.context.folder / "summary.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["metric", "min", "mean", "max"])
            for name in COLUMNS[2:]:
                values = [row[name] for row in rows if row.get(name) is not None]
                if values:
                    writer.writerow([name, min(values), sum(values) / len(values), max(values)])


def _reading(device: torch.device) -> dict[str, float | None]:
    """Memory of this process and its children in GiB; for the device, what the driver reports."""
    process = psutil.Process()
    resident = sum(_resident(member) for member in (process, *process.children(recursive=True)))
    values: dict[str, float | None] = {"cpu_mem_gb": resident / GIB}
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        values |= {
            "peak_gpu_mem_gb": torch.cuda.max_memory_allocated(device) / GIB,
            "peak_gpu_mem_reserved_gb": torch.cuda.max_memory_reserved(device) / GIB,
            "gpu_mem_used_gb": (total - free) / GIB,
            "gpu_mem_free_gb": free / GIB,
            "temperature_c": _driver(torch.cuda.temperature, device),
            "power_w": _driver(torch.cuda.power_draw, device, 1e-3),
            "utilisation_percent": _driver(torch.cuda.utilization, device),
        }
        torch.cuda.reset_peak_memory_stats(device)
    return values


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _driver(query: Any, device: torch.device, scale: float = 1.0) -> float | None:
    """None if the driver's library is missing or fails."""
    try:
        return float(query(device)) * scale
    except (ModuleNotFoundError, RuntimeError):
        return None
