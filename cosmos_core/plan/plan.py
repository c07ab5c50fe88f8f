"""What a run will do, decided before any process starts."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from cosmos_core.config.run import RunConfig
from cosmos_core.plan.changes import Change
from cosmos_core.plan.layout import RunLayout, step_of

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
    """Where the weights come from: 'scratch', 'pretrained' (the family loads them), 'warm' (weights only) or 'resume'
    (everything), and the folder.

    A 'warm' folder contains ``model/``; a 'resume' folder contains ``model/``, ``optim/``, ``trainer/`` and so on.
    launch: the launch that trained what is resumed, where that is known.
    """

    kind: str
    path: Path | None = None
    note: str = ""
    launch: int | None = None

    @property
    def step(self) -> int | None:
        """Finished steps of the checkpoint to resume, where its folder's name tells."""
        return step_of(self.path) if self.kind == "resume" and self.path is not None else None

    @property
    def source(self) -> str:
        """The checkpoint in words."""
        assert self.path is not None
        return self.path.name + (f" (launch {self.launch})" if self.launch is not None else "")


@frozen(kw_only=True)
class RunPlan:
    """The plan of one run, the same on every process.

    changes: keys that differ from what trained the checkpoint to resume. launch: number of the launch's record in the
    run directory; None until it is written, and on processes that leave that to another one.
    """

    config: RunConfig
    run_dir: Path
    degrees: Degrees
    resume: Resume
    distributions: dict[str, str]
    changes: tuple[Change, ...] = ()
    launch: int | None = None

    @property
    def resumes_itself(self) -> bool:
        """Whether the checkpoint to resume is in the run directory."""
        path = self.resume.path
        return path is not None and path.parent == RunLayout(self.run_dir).checkpoints

    @property
    def finished(self) -> bool:
        """Whether the run's own checkpoint has all the steps already."""
        done = self.resume.step
        return self.resumes_itself and done is not None and done >= self.config.trainer.max_iter

    def completion(self) -> list[str]:
        """Of a finished run that nothing is to be done, what would continue it, and what differs; else nothing."""
        if not self.finished:
            return []
        done = self.resume.step
        lines = [f"complete at step {done}; nothing to do", f"to continue: trainer.max_iter=M with M above {done}"]
        if self.changes:
            lines.append(f"differs from what trained {self.resume.source}: {', '.join(map(str, self.changes))}")
        refused = ", ".join(change.key for change in self.changes if change.refused)
        return [*lines, f"a run that continues cannot change {refused}"] if refused else lines

    def _data(self) -> dict[str, str]:
        """Datasets, and whether their folders are there."""
        loaders = {"training data": self.config.dataloader_train}
        if self.config.trainer.run_validation and self.config.dataloader_val is not None:
            loaders["validation data"] = self.config.dataloader_val
        texts = {}
        for label, loader in loaders.items():
            path = getattr(loader.dataset, "path", None)
            found = "" if path is None else f" in {path} ({'found' if Path(path).exists() else 'not there'})"
            texts[label] = f"{loader.dataset.type}{found}"
        return texts

    def _changes(self) -> dict[str, str]:
        if not self.changes:
            return {}
        step = self.resume.step
        label = f"changed since step {step}" if step is not None else f"changed since {self.resume.source}"
        return {label: ", ".join(map(str, self.changes))}

    def summary(self) -> dict[str, str]:
        """What a person wants to know before the run, label -> text."""
        degrees, trainer, loader = self.degrees, self.config.trainer, self.config.dataloader_train
        micro = (
            f"up to {loader.max_samples_per_batch} samples"
            if loader.max_samples_per_batch is not None
            else f"under {loader.max_sequence_length} tokens"
        )
        source = f"{self.resume.kind} from {self.resume.path}" if self.resume.path else self.resume.kind
        return {
            "run directory": str(self.run_dir),
            "processes": f"{degrees.world} (shard {degrees.shard} x replicate {degrees.replicate} "
            f"x context {degrees.context})",
            "batch": f"{micro} x {trainer.grad_accum_iter} accumulated x {degrees.data} data ranks",
            "steps": f"{trainer.max_iter}, saved every {self.config.checkpoint.save_iter}",
            **self._data(),
            "weights": f"{source} {self.resume.note}".rstrip(),
            **self._changes(),
            "plugins": ", ".join(f"{name} {version}" for name, version in self.distributions.items()),
        }
