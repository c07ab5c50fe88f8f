"""What a run will do, decided before any process starts."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cosmos_core.config.run import RunConfig

__all__ = ["Degrees", "Resume", "RunPlan"]


@frozen(kw_only=True)
class Degrees:
    """Solved mesh degrees; their product is the number of processes."""

    replicate: int
    shard: int
    context: int

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.replicate * self.shard * self.context

    @property
    def data(self) -> int:
        """Number of distinct batches a micro-step consumes."""
        return self.replicate * self.shard


@frozen(kw_only=True)
class Resume:
    """Where the weights come from: 'scratch', 'warm' (weights only) or 'resume' (everything), and the folder.

    A 'warm' folder contains ``model/``; a 'resume' folder contains ``model/``, ``optim/``, ``trainer/`` and so on.
    """

    kind: str
    path: Path | None = None


@frozen(kw_only=True)
class RunPlan:
    """The plan of one run, the same on every process."""

    config: RunConfig
    run_dir: Path
    degrees: Degrees
    resume: Resume
    distributions: dict[str, str]
