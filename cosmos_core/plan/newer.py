"""Checks that no newer version wrote the run's records, before anything in the run directory changes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cosmos_core.formats import check_format
from cosmos_core.plan.base import read_base
from cosmos_core.plan.paths import RUN_FORMAT, RunPaths
from cosmos_core.plan.plan import RunPlan

__all__ = ["check_record_formats"]


def check_record_formats(plan: RunPlan) -> None:
    """Raises UserError when a newer version wrote the run's records, or the record of the base it starts from."""
    paths = RunPaths(plan.run_dir)
    for path in (paths.launch_info, paths.outcome):
        check_format(_record(path), path, RUN_FORMAT)
    if plan.weights.path is not None:
        read_base(plan.weights.path)


def _record(path: Path) -> object:
    """None if it is missing or damaged; this launch writes it again."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None
