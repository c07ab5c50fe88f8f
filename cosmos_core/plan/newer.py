"""Refuses to continue what a newer version wrote, before anything in the run directory changes."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cosmos_core.formats import check_format
from cosmos_core.plan.base import read_base
from cosmos_core.plan.layout import RUN_FORMAT, RunLayout
from cosmos_core.plan.plan import RunPlan

__all__ = ["refuse_newer_records"]


def refuse_newer_records(plan: RunPlan) -> None:
    """Raises UserError when a newer version wrote the run's records, or the record of the base it starts from."""
    layout = RunLayout(plan.run_dir)
    for path in (layout.launch_info, layout.outcome):
        check_format(_record(path), path, RUN_FORMAT)
    if plan.resume.path is not None:
        read_base(plan.resume.path)


def _record(path: Path) -> object:
    """None for one that is not there or damaged, since this launch writes it anew."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None
