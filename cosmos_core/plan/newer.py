"""Checks that no newer version wrote the records of the run, or of the run its weights come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.base import read_base
from cosmos_core.plan.paths import LAUNCH_FILE, RUN_FORMAT, RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import content_of
from cosmos_core.plan.trained import LAUNCH_FORMAT

__all__ = ["newer_records"]


def newer_records(plan: RunPlan) -> Iterator[Problem]:
    """Records that a newer version wrote, before anything in the run directory changes."""
    paths, source = RunPaths(plan.run_dir), plan.weights.path
    records = {paths.launch_info: RUN_FORMAT, paths.outcome: RUN_FORMAT}
    if source is not None:
        records |= _of_source(source)
        try:
            read_base(source)
        except UserError as error:
            yield from error.problems
    for path, known in records.items():
        try:
            check_format(content_of(path), path, known)
        except UserError as error:
            yield from error.problems


def _of_source(checkpoint: Path) -> dict[Path, int]:
    """Records of the run that wrote a checkpoint, of the launch that trained it included."""
    paths, launch_file = RunPaths(checkpoint.parent.parent), checkpoint / LAUNCH_FILE
    record = content_of(launch_file)
    number = record.get("launch") if isinstance(record, dict) else None
    launch = {paths.launch(number).launch_info: RUN_FORMAT} if isinstance(number, int) else {}
    return {launch_file: LAUNCH_FORMAT, paths.launch_info: RUN_FORMAT, **launch}
