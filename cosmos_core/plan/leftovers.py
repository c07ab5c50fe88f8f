"""What killed or failed saves leave: checkpoints under hidden names."""

from __future__ import annotations

import shutil
from pathlib import Path

from cosmos_core.plan.disk_use import files_below

__all__ = ["PARTIAL", "leftover_bytes", "remove_leftovers"]

PARTIAL = ".partial"
"""Ends the name of a checkpoint that is being written."""


def leftover_bytes(checkpoints: Path) -> int:
    """Space that the next launch gets back."""
    return sum(facts.st_size for leftover in _leftovers(checkpoints) for _, facts in files_below(leftover))


def remove_leftovers(checkpoints: Path) -> None:
    """Remove them; for the one process that may write there. Raises OSError."""
    for leftover in _leftovers(checkpoints):
        shutil.rmtree(leftover)


def _leftovers(checkpoints: Path) -> list[Path]:
    return [path for path in checkpoints.glob(f".iter_*{PARTIAL}") if path.is_dir()]
