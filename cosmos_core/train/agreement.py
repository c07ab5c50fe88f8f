"""Checks that all ranks have the same configuration and data, and errors that all ranks raise together.

A difference that is found later would be a hang or wrong gradients.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence

import torch
from attrs import evolve

from cosmos_core.config.dump import to_plain
from cosmos_core.data.source import MapSource, described
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, gather_objects
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.changes import changes
from cosmos_core.plan.plan import RunPlan

__all__ = ["CollectiveError", "broadcast_config", "check_same_dataset", "raise_if_any_rank_failed"]


HINT = "start every machine with the same command, recipe, environment and packages"


class CollectiveError(UserError):
    """Raised on all ranks at the same place, so collectives remain safe."""


def broadcast_config(plan: RunPlan, mesh: Mesh) -> RunPlan:
    """Rank 0's run name and directory on every rank, since ranks may resolve `${now:...}` differently.

    Raises UserError on every rank when anything else differs, or the versions of what runs.
    """
    own = (plan.config.job.name, plan.run_dir, to_plain(plan.config), _versions(plan))
    name, run_dir, values, versions = gather_objects(own if mesh.rank == 0 else None, mesh)[0]
    plan = evolve(plan, run_dir=run_dir, config=evolve(plan.config, job=evolve(plan.config.job, name=name)))
    differing = [str(change) for change in changes(values, plan.config)]
    here = _versions(plan)
    differing += [
        f"{package} {versions.get(package, 'absent')} -> {here.get(package, 'absent')}"
        for package in sorted(versions.keys() | here.keys())
        if versions.get(package) != here.get(package)
    ]
    hosts, differences = zip(*gather_objects((platform.node(), differing), mesh), strict=True)
    problems = [
        Problem(message=f"rank 0 on {hosts[0]} -> rank {rank} on {hosts[rank]}: {', '.join(differing)}", hint=HINT)
        for rank, differing in enumerate(differences)
        if differing
    ]
    if problems:
        raise UserError("the ranks differ in configuration or versions; nothing was started", problems)
    return plan


def _versions(plan: RunPlan) -> dict[str, str]:
    return {**plan.distributions, "torch": torch.__version__, "Python": platform.python_version()}


def raise_if_any_rank_failed(error: UserError | None, mesh: Mesh) -> None:
    """Raises the first rank's error on every rank, so that no rank waits for one that has left. Collective."""
    if not any_rank(error is not None, mesh):
        return
    errors = gather_objects((error.title, error.problems) if error is not None else None, mesh)
    raise CollectiveError(*next(report for report in errors if report is not None))


def check_same_dataset(sources: Sequence[MapSource], mesh: Mesh) -> None:
    """Raises UserError on every rank when the ranks have different samples."""
    for source in sources:
        hosts, seen = zip(*gather_objects((platform.node(), described(source)), mesh), strict=True)
        problems = [
            Problem(message=f"rank {rank} on {hosts[rank]} sees {data}")
            for rank, data in enumerate(seen)
            if data != seen[0]
        ]
        if problems:
            hint = "give every machine the same files, or pin the revision"
            problems.insert(
                0, Problem(message=f"rank 0 on {hosts[0]} sees {seen[0]}", key="dataloader_train.dataset", hint=hint)
            )
            raise UserError("the ranks see different data; nothing was started", problems)
