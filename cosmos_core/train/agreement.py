"""What all ranks must see alike before the first step; a difference later would be a hang, or wrong gradients."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from cosmos_core.config.dump import digest
from cosmos_core.data.source import IdentifiedSource, MapSource
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.reduce import any_rank, gather_objects
from cosmos_core.errors import Problem, UserError
from cosmos_core.plan.plan import RunPlan

__all__ = ["SharedRefusal", "agreed", "raise_on_all", "refuse_unlike_data"]


class SharedRefusal(UserError):
    """One that every rank raises at the same place, so that they may still do things together."""


def agreed(plan: RunPlan, mesh: Mesh) -> RunPlan:
    """Rank 0's name and directory for every rank, since ranks that resolve `${now:...}` apart may differ there.

    Raises UserError when anything else differs.
    """
    name, run_dir = gather_objects((plan.config.job.name, plan.run_dir), mesh)[0]
    plan = evolve(plan, run_dir=run_dir, config=evolve(plan.config, job=evolve(plan.config.job, name=name)))
    digests = gather_objects(digest(plan.config), mesh)
    others = [rank for rank, value in enumerate(digests) if value != digests[0]]
    if others:
        raise UserError(f"ranks {others} resolved another configuration than rank 0; nothing was started")
    return plan


def raise_on_all(refusal: UserError | None, mesh: Mesh) -> None:
    """Raises the first rank's refusal on every rank, so that nobody waits for one that left; all ranks must ask."""
    if not any_rank(refusal is not None, mesh):
        return
    errors = gather_objects((refusal.title, refusal.problems) if refusal is not None else None, mesh)
    raise SharedRefusal(*next(error for error in errors if error is not None))


def refuse_unlike_data(sources: Sequence[MapSource], mesh: Mesh) -> None:
    """Raises UserError on every rank when a dataset has other samples on one rank than on another."""
    for source in sources:
        seen = gather_objects(_described(source), mesh)
        problems = [Problem(message=f"rank {rank} sees {what}") for rank, what in enumerate(seen) if what != seen[0]]
        if problems:
            hint = "give every machine the same files, or pin the revision"
            problems.insert(0, Problem(message=f"rank 0 sees {seen[0]}", key="dataloader_train.dataset", hint=hint))
            raise UserError("the ranks see different data; nothing was started", problems)


def _described(source: MapSource) -> str:
    return source.identity if isinstance(source, IdentifiedSource) else f"{len(source)} samples"
