"""What a run will do, decided before any process starts."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

from cosmos_core.config.run import DatasetConfig, RunConfig
from cosmos_core.errors import Problem, UserError
from cosmos_core.names import counted
from cosmos_core.plan.changes import Change
from cosmos_core.plan.paths import RunPaths, step_of

__all__ = ["Degrees", "RunPlan", "WeightSource"]


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
        """Number of distinct batches of a micro-step."""
        return self.replicate * self.shard


@frozen(kw_only=True)
class WeightSource:
    """Where the weights come from.

    kind: 'scratch', 'pretrained' (the family loads them), 'warm' (weights only) or 'resume' (the whole training state);
    'missing' in a draft that has none. path: the checkpoint's folder.

    A 'warm' folder contains ``model/``; a 'resume' folder contains ``model/``, ``optim/``, ``trainer/`` and so on.
    launch: the launch that trained the checkpoint to resume, if known.
    """

    kind: str
    path: Path | None = None
    note: str = ""
    launch: int | None = None

    @property
    def step(self) -> int | None:
        """Finished steps of the checkpoint to resume, from its folder's name."""
        return step_of(self.path) if self.kind == "resume" and self.path is not None else None

    @property
    def label(self) -> str:
        """The checkpoint's folder name, and the launch that trained it."""
        assert self.path is not None
        return self.path.name + (f" (launch {self.launch})" if self.launch is not None else "")


@frozen(kw_only=True)
class RunPlan:
    """The plan of one run, the same on every process.

    changes: keys that differ from what trained the checkpoint to resume. launch: number of the launch's record in the
    run directory; None until it is written, and on processes that do not write it.

    command: the recipe and the overrides, as given in the launching process; for hints.

    max_restarts: how often the command starts the run again when it loses a process.

    problems: why a draft cannot run; its `degrees` or `weights` are stand-ins then. None of a plan that runs.
    """

    config: RunConfig
    run_dir: Path
    degrees: Degrees
    weights: WeightSource
    distributions: dict[str, str]
    changes: tuple[Change, ...] = ()
    launch: int | None = None
    problems: tuple[Problem, ...] = ()
    command: tuple[str, ...] = ()
    max_restarts: int = 0

    def without_problems(self) -> RunPlan:
        """This plan. Raises UserError when it has problems and there is something left to do."""
        if self.problems and not self.finished:
            count = counted(len(self.problems), "problem")
            raise UserError(f"{count} with the planned run; nothing was started", self.problems)
        return self

    @property
    def resumes_itself(self) -> bool:
        """Whether the checkpoint to resume is in the run directory."""
        path = self.weights.path
        return path is not None and path.parent == RunPaths(self.run_dir).checkpoints

    @property
    def finished(self) -> bool:
        """Whether the run's own checkpoint already has all steps."""
        done = self.weights.step
        return self.resumes_itself and done is not None and done >= self.config.trainer.max_iter

    def completion(self) -> list[str]:
        """For a finished run: that nothing is left to do, how to continue it, and what differs. Else nothing."""
        if not self.finished:
            return []
        done = self.weights.step
        lines = [f"complete at step {done}; nothing to do", f"to continue: trainer.max_iter=M with M above {done}"]
        lines.append("to train anew: job.name=NAME, which takes another run directory")
        if self.changes:
            lines.append(f"differs from what trained {self.weights.label}: {', '.join(map(str, self.changes))}")
        rejected = ", ".join(change.key for change in self.changes if change.rejected)
        return [*lines, f"a run that continues cannot change {rejected}"] if rejected else lines

    def _data(self) -> dict[str, str]:
        """Datasets, whether their folders exist, and what lies elsewhere."""
        texts, labels = {}, ("training data", "validation data")
        for label, loader in zip(labels, self.config.data_sections.values(), strict=False):
            total = sum(member.weight or 0.0 for member in loader.mixture)
            texts[label] = "; ".join(_described(data, total) for data in loader.datasets.values())
        of_data = (name for data in self.config.datasets.values() for name in data.hub_names)
        names = dict.fromkeys((*self.config.model.hub_names, *of_data))
        data = self.config.dataloader_train
        if data.fills_cache and self.config.model.uses_latent_cache:
            texts["latent cache"] = f"filled by this run in {data.cache_dir}, at most {data.cache_gib:g} GiB"
        return {**texts, "not checked": f"on the Hub: {', '.join(names)}"} if names else texts

    def _changes(self) -> dict[str, str]:
        if not self.changes:
            return {}
        step = self.weights.step
        label = f"changed since step {step}" if step is not None else f"changed since {self.weights.label}"
        return {label: ", ".join(map(str, self.changes))}

    def summary(self) -> dict[str, str]:
        """The plan in short, label -> text."""
        degrees, trainer, loader = self.degrees, self.config.trainer, self.config.dataloader_train
        micro = (
            f"up to {counted(loader.max_samples_per_batch, 'sample')}"
            if loader.max_samples_per_batch is not None
            else f"under {loader.max_sequence_length} tokens"
        )
        source = f"{self.weights.kind} from {self.weights.path}" if self.weights.path else self.weights.kind
        # The mesh of a finished run is a stand-in when it does not fit.
        mesh = {
            "processes": f"{degrees.world} (shard {degrees.shard} x replicate {degrees.replicate} "
            f"x context {degrees.context})",
            "batch": f"{micro} x {trainer.grad_accum_iter} accumulated x {counted(degrees.data, 'data rank')}",
        }
        return {
            "run directory": str(self.run_dir),
            **({} if self.problems else mesh),
            "steps": f"{trainer.max_iter}, saved every {self.config.checkpoint.save_iter}",
            **self._data(),
            "weights": f"{source} {self.weights.note}".rstrip(),
            **self._changes(),
            "plugins": ", ".join(f"{name} {version}" for name, version in self.distributions.items()),
        }


def _described(dataset: DatasetConfig, total: float) -> str:
    """Type, place and whether it exists; of a mixture's member also its share, and its name. total: of all weights."""
    place = "" if dataset.place is None else f" in {dataset.place} ({_presence(dataset.place)})"
    share = f"{dataset.weight / total:.1%} " if dataset.weight is not None and total else ""
    name = f"{dataset.name}: " if dataset.name is not None else ""
    return f"{share}{name}{dataset.type}{place}"


def _presence(path: str) -> str:
    """Whether a dataset's folder or file is there, as far as this machine can tell."""
    if "://" in path:
        return "not checked"
    try:
        os.stat(path)
    except PermissionError:
        return "not checked"
    except (OSError, ValueError):
        return "not there"
    return "found"
