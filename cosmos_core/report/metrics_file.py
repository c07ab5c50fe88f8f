"""Reads and truncates ``metrics.jsonl``, whatever state it is in: a damaged line is counted, never an error."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from cosmos_core.plan.record import replace_file
from cosmos_core.strict_json import loads

__all__ = ["Metrics", "last_metrics", "read_metrics", "truncate_records"]

TAIL = 2**16
"""Bytes at the end of the file that hold the newest records."""


@frozen
class Metrics:
    """Records of steps and of validations, oldest first. damaged: lines that are no record."""

    steps: list[dict[str, Any]]
    validations: list[dict[str, Any]]
    damaged: int = 0

    @property
    def last_step(self) -> dict[str, Any]:
        """The newest step; {} before the first one."""
        return self.steps[-1] if self.steps else {}

    @property
    def last_validation(self) -> dict[str, Any]:
        """The newest validation; {} before the first one."""
        return self.validations[-1] if self.validations else {}


def read_metrics(path: Path) -> Metrics:
    """All records of a file; none when it is not there."""
    try:
        return _parsed(path.read_bytes().splitlines())
    except OSError:
        return Metrics([], [])


def last_metrics(path: Path) -> Metrics:
    """The newest records alone: those in the last 64 KiB."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return Metrics([], [])
    return _parsed(lines[1:] if size > TAIL else lines)


def truncate_records(path: Path, step: int) -> None:
    """Rewrite a file of records without those past `step` and without damaged lines, if it is there. Raises OSError."""
    if path.exists():
        lines = path.read_bytes().splitlines()
        records = [line + b"\n" for line in lines if (record := _record(line)) is not None and record["step"] <= step]
        replace_file(path, b"".join(records))


def _parsed(lines: Iterable[bytes]) -> Metrics:
    metrics = Metrics([], [])
    damaged = 0
    for line in lines:
        record = _record(line)
        if record is None:
            damaged += 1
        else:
            (metrics.validations if "val_loss" in record else metrics.steps).append(record)
    return Metrics(metrics.steps, metrics.validations, damaged)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = loads(line.decode())
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None
