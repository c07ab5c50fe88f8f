"""``outcome.json``: how the last launch in a run directory ended."""

from __future__ import annotations

import json
from typing import Any

from cosmos_core.config.problems import render
from cosmos_core.errors import RankLost, ReportedError, UserError
from cosmos_core.plan.paths import RUN_FORMAT, RunPaths
from cosmos_core.plan.record import replace_file

__all__ = ["EXIT_CODES", "error_outcome", "read_outcome", "write_outcome"]

EXIT_CODES = {"done": 0, "failed": 1, "diverged": 1, "refused": 2, "stopped": 75, "interrupted": 130}
"""Of the command, by outcome."""


def error_outcome(error: BaseException) -> dict[str, Any]:
    """The record of a launch that ended with an error."""
    if isinstance(error, ReportedError):
        outcome = "refused" if isinstance(error, UserError) else "failed" if isinstance(error, RankLost) else "diverged"
        return {"outcome": outcome, "error": render(error)}
    if isinstance(error, KeyboardInterrupt):
        return {"outcome": "interrupted"}
    return {"outcome": "failed", "error": f"{type(error).__name__}: {error}"}


def write_outcome(paths: RunPaths, record: dict[str, Any], *, writer: str = "") -> None:
    """Replace the record. writer: tells apart ranks that may write at the same time."""
    replace_file(paths.outcome, json.dumps({"format": RUN_FORMAT, **record}).encode(), writer=writer)


def read_outcome(paths: RunPaths) -> str:
    """The recorded outcome; "" before one is recorded."""
    try:
        return str(json.loads(paths.outcome.read_text(encoding="utf-8"))["outcome"])
    except (OSError, ValueError, KeyError):
        return ""
