"""A trace of a few steps for the profiler's viewers, and a snapshot of the GPU's memory, from every rank."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from cosmos_core.builtin.config import Profile
from cosmos_core.train.callback import Callback, CallbackContext
from cosmos_core.train.trainer import Trainer

__all__ = ["ProfileCallback"]

logger = logging.getLogger(__name__)

MAX_EVENTS = 200_000
"""Allocations that a snapshot holds."""


class ProfileCallback(Callback):
    """``trace_rank<N>.json.gz`` for Perfetto or chrome://tracing, ``memory_rank<N>.pickle`` for pytorch.org/memory_viz.

    A launch that starts after `start` profiles its own first steps.
    """

    config: Profile

    def __init__(self, config: Profile, context: CallbackContext) -> None:
        super().__init__(config, context)
        self._profiler: Any = None
        self._last: int | None = None

    def step_start(self, trainer: Trainer) -> None:
        """Begin before step `start`."""
        if self._last is not None or trainer.step + 1 < self.config.start:
            return
        self._last = trainer.step + self.config.steps
        on_gpu = trainer.mesh.device.type == "cuda"
        if self.config.memory and on_gpu:
            torch.cuda.memory._record_memory_history(max_entries=MAX_EVENTS)
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        self._profiler = profile(activities=activities, profile_memory=self.config.memory, record_shapes=True)
        self._profiler.start()

    def step_end(self, trainer: Trainer) -> None:
        """Write after the last of the steps."""
        if self._profiler is not None and trainer.step == self._last:
            self._write(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Write what there is, when the run ends before."""
        if self._profiler is not None:
            self._write(trainer)

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        """Write what there is: it may show why memory ran out."""
        if self._profiler is not None:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        rank = trainer.mesh.rank
        trace = self.context.folder / f"trace_rank{rank}.json.gz"
        trace.parent.mkdir(parents=True, exist_ok=True)
        profiler.export_chrome_trace(str(trace))
        if self.config.memory and trainer.mesh.device.type == "cuda":
            torch.cuda.memory._dump_snapshot(str(self.context.folder / f"memory_rank{rank}.pickle"))
            torch.cuda.memory._record_memory_history(enabled=None)
        if trainer.is_main:
            logger.info("profile: %s", self.context.folder)
