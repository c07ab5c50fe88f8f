"""metrics.jsonl: one JSON object a finished step or validation."""

from __future__ import annotations

import logging
from io import FileIO
from pathlib import Path
from typing import Any

from cosmos_core.builtin.config import Jsonl
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.report.metrics_file import truncate_records
from cosmos_core.strict_json import dumps
from cosmos_core.train.tracker import Tracker

__all__ = ["JsonlTracker"]

logger = logging.getLogger(__name__)


class JsonlTracker(Tracker):
    """Appends records; records of steps that will be repeated are removed first, on resume and when a run goes back.

    What the disk does not take is kept and written with the next record.
    """

    def __init__(self, config: Jsonl) -> None:
        self.config = config
        self._path: Path | None = None
        self._file: FileIO | None = None
        self._pending = b""
        self._told = False

    def start(self, plan: RunPlan, step: int) -> None:
        """Open the file after truncating it to `step`."""
        self._path = RunPaths(plan.run_dir).metrics
        self._open(step, resumed=plan.weights.kind == "resume")

    def rewind(self, step: int) -> None:
        """Truncate the file to `step`."""
        self.finish("")
        self._pending = b""
        self._open(step, resumed=True)

    def _open(self, step: int, *, resumed: bool) -> None:
        assert self._path is not None, "started"
        truncate_records(self._path, step if resumed else -1)
        self._file = self._path.open("ab", buffering=0)

    def log(self, record: dict[str, Any]) -> None:
        """Write one record."""
        self._pending += dumps(record).encode() + b"\n"
        self._write()

    def finish(self, outcome: str) -> None:
        """Close the file."""
        self._told = False
        self._write()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self) -> None:
        try:
            while self._pending and self._file is not None:
                self._pending = self._pending[self._file.write(self._pending) :]
        except OSError as error:
            if not self._told:
                logger.warning("metrics.jsonl cannot be written (%s); its records wait until it can", error.strerror)
            self._told = True
        else:
            self._told = False
