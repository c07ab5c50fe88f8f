"""What killed or failed saves leave: checkpoints under hidden names."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["PARTIAL", "leftover_bytes", "remove_leftovers"]

PARTIAL = ".partial"
"""Ends the name of a checkpoint that is being written."""


def leftover_bytes(checkpoints: Path) -> int:
    """Space that the next launch gets back."""
    files = (path for leftover in _leftovers(checkpoints) for path in leftover.rglob("*"))
    return sum(path.lstat().st_size for path in files if path.is_file())


def remove_leftovers(checkpoints: Path) -> None:
    """Remove them; for the one process that may write there. Raises OSError."""
    for leftover in _leftovers(checkpoints):
        shutil.rmtree(leftover)


def _leftovers(checkpoints: Path) -> list[Path]:
    return [path for path in checkpoints.glob(f".iter_*{PARTIAL}") if path.is_dir()]
