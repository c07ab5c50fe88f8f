"""``samples_rank<r>.jsonl``: every sample that a rank trained on, for exact comparisons."""

from __future__ import annotations

import json
from io import FileIO
from typing import TYPE_CHECKING

from cosmos_core.plan.paths import SAMPLES, RunPaths
from cosmos_core.report.metrics_file import truncate_records
from cosmos_core.train.callback import Callback, CallbackContext

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["SampleLog"]


class SampleLog(Callback):
    """Switched on by `trainer.log_samples`. Context-parallel peers share their samples; the first of them logs them.

    A line is ``{"step": 3, "micro_batch": 0, "rank": 1, "key": "clip_w0"}``; ``"dataset"`` is there in a mixture.
    """

    def __init__(self, paths: RunPaths) -> None:
        super().__init__(None, CallbackContext(folder=paths.root, run_dir=paths.root))
        self._paths = paths
        self._file: FileIO | None = None

    def train_start(self, trainer: Trainer) -> None:
        """Remove the lines of steps that will be repeated, then open this rank's file."""
        mesh = trainer.mesh
        own = self._paths.samples(mesh.rank)
        ours = [own]
        if mesh.rank == 0:  # Of ranks that an earlier launch had, too.
            ranks = {self._paths.samples(rank) for rank in range(1, mesh.world)}
            ours += [path for path in self._paths.root.glob(f"{SAMPLES}*.jsonl") if path not in ranks | {own}]
        for path in ours:
            truncate_records(path, trainer.step)
        if mesh.rank % mesh.degrees.context == 0:
            self._file = own.open("ab", buffering=0)

    def step_end(self, trainer: Trainer) -> None:
        """Write the step's samples in the order of training."""
        if self._file is None:
            return
        lines = []
        for number, samples in enumerate(trainer.samples):
            for key, dataset in samples:
                line = {"step": trainer.step, "micro_batch": number, "rank": trainer.mesh.rank, "key": key}
                lines.append(json.dumps(line | ({"dataset": dataset} if dataset else {})))
        self._file.write("".join(f"{line}\n" for line in lines).encode())

    def rolled_back(self, trainer: Trainer) -> None:
        """Remove the lines of steps that follow again."""
        self.train_end(trainer)
        self.train_start(trainer)

    def train_end(self, trainer: Trainer) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
