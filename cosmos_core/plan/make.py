"""From a configuration to a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from os.path import exists
from pathlib import Path
from typing import TypeVar

from attrs import evolve

from cosmos_core.config.document import read_document
from cosmos_core.config.run import JobConfig, RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.changes import Change, changes
from cosmos_core.plan.checkpoint import find_checkpoint
from cosmos_core.plan.degrees import solve_degrees
from cosmos_core.plan.paths import RunPaths, check_place
from cosmos_core.plan.plan import Degrees, RunPlan, WeightSource
from cosmos_core.plan.record import recorded_folders
from cosmos_core.plan.trained import trained_by

__all__ = ["draft_plan", "make_plan", "plan_in"]

T = TypeVar("T")

CACHE = "latent_cache"
"""Beside the projects in an output root."""


def make_plan(
    config: RunConfig, *, output_root: Path, world: int, distributions: Mapping[str, str], fresh: bool = False
) -> RunPlan:
    """Plan a run of `world` processes. fresh: take the first run directory that does not exist. Raises UserError."""
    plan = draft_plan(config, output_root=output_root, world=world, distributions=distributions, fresh=fresh)
    return plan.without_problems()


def draft_plan(
    config: RunConfig, *, output_root: Path, world: int, distributions: Mapping[str, str], fresh: bool = False
) -> RunPlan:
    """As `make_plan`, with what is wrong in the plan's `problems`, so that the other checks can still be made."""
    config = _with_cache_dir(config, output_root)
    return _draft_in(_run_dir(config.job, output_root, fresh), config, world=world, distributions=distributions)


def plan_in(
    run_dir: Path, config: RunConfig, *, world: int, distributions: Mapping[str, str], launch: int | None = None
) -> RunPlan:
    """Plan a run in a given run directory. launch: the number of its record, once written. Raises UserError."""
    plan = _draft_in(run_dir, config, world=world, distributions=distributions)
    return evolve(plan.without_problems(), launch=launch)


def _draft_in(run_dir: Path, config: RunConfig, *, world: int, distributions: Mapping[str, str]) -> RunPlan:
    problems: list[Problem] = []
    config = _with_absolute_load_path(config)
    parallelism = config.model.parallelism
    stand_in = Degrees(replicate=1, shard=1, context=parallelism.context_parallel_shard_degree)
    degrees = _tried(lambda: solve_degrees(parallelism, world), stand_in, problems)
    _tried(lambda: check_place(run_dir), None, problems)
    weights = _tried(lambda: find_checkpoint(config, RunPaths(run_dir)), WeightSource(kind="missing"), problems)
    unchanged: tuple[WeightSource, tuple[Change, ...]] = (weights, ())
    weights, changed = _tried(lambda: _with_changes(config, weights), unchanged, problems)
    return RunPlan(
        config=config,
        run_dir=run_dir,
        degrees=degrees,
        weights=weights,
        distributions=dict(distributions),
        changes=changed,
        problems=tuple(problems),
    )


def _tried(solve: Callable[[], T], otherwise: T, problems: list[Problem]) -> T:
    """What `solve` returns; `otherwise`, with its problems added to the list, when it raises a UserError."""
    try:
        return solve()
    except UserError as error:
        problems += error.problems or [Problem(message=error.title)]
        return otherwise


def _with_changes(config: RunConfig, weights: WeightSource) -> tuple[WeightSource, tuple[Change, ...]]:
    """Where the run resumes, with the launch that trained it, and what differs from what that launch was told."""
    if weights.kind != "resume" or weights.path is None:
        return weights, ()
    trained = trained_by(weights.path)
    if trained is None:
        return _noted(weights, "no record says what trained it, so no setting is compared"), ()
    if trained.lost:
        weights = _noted(weights, f"the record of its launch is gone; settings are compared with {trained.config}")
    differing = changes(read_document(trained.config).values, config, recorded_folders(trained.config))
    return evolve(weights, launch=trained.launch), differing


def _noted(weights: WeightSource, note: str) -> WeightSource:
    return evolve(weights, note=f"{weights.note} ({note})".lstrip())


def _with_absolute_load_path(config: RunConfig) -> RunConfig:
    """With a load_path that means the same from any folder, for those who read the record later."""
    path = config.checkpoint.load_path
    if not path:
        return config
    return evolve(config, checkpoint=evolve(config.checkpoint, load_path=str(Path(path).absolute())))


def _with_cache_dir(config: RunConfig, output_root: Path) -> RunConfig:
    """With the folder that a run fills named, where it fills one; it serves all runs of an output root."""
    data = config.dataloader_train
    if not data.fills_cache or data.cache_dir is not None:
        return config
    folder = str((output_root / CACHE).absolute())
    return evolve(config, dataloader_train=evolve(data, cache_dir=folder))


def _run_dir(job: JobConfig, output_root: Path, fresh: bool) -> Path:
    base = output_root / job.project / job.group
    if not fresh or not exists(base / job.name):
        return base / job.name
    return next(path for number in count(2) if not exists(path := base / f"{job.name}-{number}"))
