"""From a configuration to a plan."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from attrs import evolve

from cosmos_core.config.document import read_document
from cosmos_core.config.run import JobConfig, RunConfig
from cosmos_core.plan.changes import Change, changes
from cosmos_core.plan.checkpoint import find_checkpoint
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan, WeightSource
from cosmos_core.plan.trained import trained_by

__all__ = ["make_plan", "plan_in"]


def make_plan(
    config: RunConfig, *, output_root: Path, world: int, distributions: Mapping[str, str], fresh: bool = False
) -> RunPlan:
    """Plan a run of `world` processes. fresh: take the first run directory that does not exist. Raises UserError."""
    return plan_in(_run_dir(config.job, output_root, fresh), config, world=world, distributions=distributions)


def plan_in(
    run_dir: Path, config: RunConfig, *, world: int, distributions: Mapping[str, str], launch: int | None = None
) -> RunPlan:
    """Plan a run in a given run directory. launch: the number of its record, once written."""
    config = _with_absolute_load_path(config)
    weights, changed = _with_changes(config, find_checkpoint(config, RunPaths(run_dir)))
    return RunPlan(
        config=config,
        run_dir=run_dir,
        degrees=solve_degrees(config.model.parallelism, world),
        weights=weights,
        distributions=dict(distributions),
        changes=changed,
        launch=launch,
    )


def _with_changes(config: RunConfig, weights: WeightSource) -> tuple[WeightSource, tuple[Change, ...]]:
    """Where the run resumes, with the launch that trained it, and what differs from what that launch was told."""
    if weights.kind != "resume" or weights.path is None:
        return weights, ()
    trained = trained_by(weights.path)
    if trained is None:
        return _noted(weights, "no record says what trained it, so no setting is compared"), ()
    if trained.lost:
        weights = _noted(weights, f"the record of its launch is gone; settings are compared with {trained.config}")
    return evolve(weights, launch=trained.launch), changes(read_document(trained.config).values, config)


def _noted(weights: WeightSource, note: str) -> WeightSource:
    return evolve(weights, note=f"{weights.note} ({note})".lstrip())


def _with_absolute_load_path(config: RunConfig) -> RunConfig:
    """With a load_path that means the same from any folder, for those who read the record later."""
    path = config.checkpoint.load_path
    if not path:
        return config
    return evolve(config, checkpoint=evolve(config.checkpoint, load_path=str(Path(path).absolute())))


def _run_dir(job: JobConfig, output_root: Path, fresh: bool) -> Path:
    base = output_root / job.project / job.group
    if not fresh or not (base / job.name).exists():
        return base / job.name
    return next(path for number in count(2) if not (path := base / f"{job.name}-{number}").exists())
