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
    """Where the weights come from: 'scratch', 'pretrained' (the family loads them), 'warm' (weights only) or 'resume'
    (everything), and the folder.

    A 'warm' folder contains ``model/``; a 'resume' folder contains ``model/``, ``optim/``, ``trainer/`` and so on.
    """

    kind: str
    path: Path | None = None
    note: str = ""


@frozen(kw_only=True)
class RunPlan:
    """The plan of one run, the same on every process."""

    config: RunConfig
    run_dir: Path
    degrees: Degrees
    resume: Resume
    distributions: dict[str, str]

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
            "plugins": ", ".join(f"{name} {version}" for name, version in self.distributions.items()),
        }
