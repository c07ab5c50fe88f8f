"""Runs that leave frozen weights to a checkpoint of another run, which therefore stays."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from cosmos_core.errors import UserError, first_line
from cosmos_core.plan.checkpoint import complete_ones
from cosmos_core.plan.frozen_base import FrozenBase
from cosmos_core.plan.paths import RunPaths, step_of

__all__ = ["base_users", "note_base_user"]

logger = logging.getLogger(__name__)

NOTE = "base_of.jsonl"
"""Beside ``model/`` of a checkpoint: the directories of runs that use it as their base, one a line."""


def note_base_user(base: FrozenBase, run_dir: Path) -> None:
    """Note in a base that a run leaves frozen weights to it, if it is a run's checkpoint. Logs where that fails."""
    checkpoint = Path(base.folder).parent
    if not base.left_out or not base.dcp or step_of(checkpoint) is None or run_dir in _noted(checkpoint):
        return
    try:
        with (checkpoint / NOTE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(str(run_dir)) + "\n")
    except OSError as error:
        logger.warning("this run needs %s, whose own run may remove it: %s", checkpoint, first_line(error))


def base_users(checkpoint: Path) -> list[Path]:
    """Directories of the runs that are there and need a checkpoint as their base."""
    return [run_dir for run_dir in _noted(checkpoint) if run_dir.is_dir() and _needs(run_dir, checkpoint)]


def _noted(checkpoint: Path) -> list[Path]:
    try:
        lines = (checkpoint / NOTE).read_text(encoding="utf-8").splitlines()
        return [Path(json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read: %s", checkpoint / NOTE, first_line(error))
        return []


def _needs(run_dir: Path, checkpoint: Path) -> bool:
    """Whether a run has a checkpoint that lacks what this base has, or none as yet."""
    own = complete_ones(RunPaths(run_dir).checkpoints)
    return not own or any(_is_base(checkpoint, user) for user in own)


def _is_base(checkpoint: Path, user: Path) -> bool:
    try:
        base = FrozenBase.read(user)
    except UserError:
        return True  # Damage does not say that it is not needed.
    return base is not None and base.left_out and Path(base.folder) == (checkpoint / "model").resolve()
