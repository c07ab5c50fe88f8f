"""Progress: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from cosmos_core.builtin.config import Console as ConsoleConfig
from cosmos_core.plan.plan import RunPlan

__all__ = ["ConsoleTracker"]

WINDOW = 50
"""Steps over which speed and data wait are averaged."""


class ConsoleTracker:
    """Loss, learning rate, gradient norm, tokens per second, fraction of time waiting for data, time left."""

    def __init__(self, config: ConsoleConfig) -> None:
        self.config = config
        self._every = 1
        self._last = 0
        self._recent: deque[dict[str, Any]] = deque(maxlen=WINDOW)
        self._show: Callable[[int, str], None] = lambda step, text: None
        self._message: Callable[[str], None] = lambda text: None
        self._close: Callable[[], None] = lambda: None

    def start(self, plan: RunPlan, step: int) -> None:
        """Print the plan, then show progress from `step` on."""
        if not self.config.enabled:
            return
        self._every, self._last = plan.config.trainer.logging_iter, plan.config.trainer.max_iter
        if sys.stderr.isatty():
            self._start_bar(step)
        else:
            self._show = lambda step, text: self._plain(f"step {step}/{self._last}  {text}")
            self._message = self._plain
        for name, text in plan.summary().items():
            self._message(f"{name}: {text}")

    def log(self, record: dict[str, Any]) -> None:
        """Show a step every `logging_iter` steps, and every validation."""
        if "val_loss" in record:
            self._message(f"step {record['step']}/{self._last}  validation loss {record['val_loss']:.4f}")
            return
        self._recent.append(record)
        if record["step"] % self._every == 0 or record["step"] == self._last:
            self._show(record["step"], self._line(record))

    def finish(self, outcome: str) -> None:
        """Close the progress bar."""
        self._close()

    def _line(self, record: dict[str, Any]) -> str:
        seconds = sum(recent["seconds"] for recent in self._recent)
        tokens = sum(recent["tokens"] for recent in self._recent)
        wait = sum(recent["data_wait"] for recent in self._recent)
        left = (self._last - record["step"]) * seconds / len(self._recent)
        rates = "  ".join(f"{name} {value:.2e}" for name, value in record.items() if name.partition("/")[0] == "lr")
        packs = f"packs {record['pack_filled']:.0%} full  " if "pack_filled" in record else ""
        return (
            f"loss {record['loss']:.4f}  {rates}  grad {record['grad_norm']:.3f}  "
            f"{tokens / max(seconds, 1e-9):,.0f} tokens/s  {packs}data wait {wait / max(seconds, 1e-9):.0%}  "
            f"eta {int(left) // 3600:d}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}"
        )

    @staticmethod
    def _plain(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def _start_bar(self, step: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
        task = progress.add_task("", total=self._last, completed=step)
        progress.start()
        self._show = lambda step, text: progress.update(task, completed=step, description=text)
        self._message = lambda text: progress.console.print(text, highlight=False)
        self._close = progress.stop
