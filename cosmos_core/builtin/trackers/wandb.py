"""Metrics to Weights & Biases; `job.wandb_mode` switches it on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from cosmos_core.builtin.config import Wandb
from cosmos_core.config.dump import to_plain
from cosmos_core.data.samples import Answer
from cosmos_core.plan.paths import RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.record import replace_file
from cosmos_core.train.tracker import Media, Tracker

__all__ = ["WandbTracker"]


class WandbTracker(Tracker):
    """One W&B run for one run directory: its id is in ``wandb_id.txt``, and a resumed run continues it."""

    def __init__(self, config: Wandb) -> None:
        self.config = config
        self._run: Any = None

    def start(self, plan: RunPlan, step: int) -> None:
        """Open the W&B run, unless the mode is 'disabled'."""
        job = plan.config.job
        if job.wandb_mode == "disabled":
            return
        import wandb

        paths = RunPaths(plan.run_dir)
        known = paths.wandb_id.read_text(encoding="utf-8").strip() if paths.wandb_id.is_file() else None
        self._run = wandb.init(
            project=job.project,
            group=job.group,
            name=job.name,
            id=known,
            resume="allow",
            mode=cast(Any, job.wandb_mode),
            dir=str(plan.run_dir),
            entity=self.config.entity,
            tags=list(self.config.tags),
            config=to_plain(plan.config),
            # Otherwise it uploads the command line, the address of the git remote and SLURM_* variables.
            settings=wandb.Settings(x_disable_meta=True, disable_git=True, disable_code=True),
        )
        replace_file(paths.wandb_id, f"{self._run.id}\n".encode())

    def log(self, record: dict[str, Any]) -> None:
        """One record under its step; validation metrics under ``val/``."""
        if self._run is None:
            return
        prefix = "val" if "val_loss" in record else "train"
        metrics = {f"{prefix}/{name}": value for name, value in record.items() if name != "step"}
        self._run.log(metrics, step=record["step"])

    def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
        """A table."""
        if self._run is None:
            return
        import wandb

        rows = [[answer.key, answer.prediction, answer.reference] for answer in answers]
        table = wandb.Table(columns=["sample", "answer", "data"], data=rows)
        self._run.log({"val/answers": table}, step=step)

    def finish(self, outcome: str) -> None:
        """Close the W&B run."""
        if self._run is not None:
            self._run.finish(exit_code=0 if outcome in ("done", "stopped", "interrupted") else 1)

    def log_media(self, step: int, media: Sequence[Media]) -> None:
        """A picture or a video each."""
        if self._run is None:
            return
        import wandb

        def logged(item: Media) -> Any:
            caption = item.caption or None
            if item.path.suffix == ".mp4":
                return wandb.Video(str(item.path), caption=caption, format="mp4")
            return wandb.Image(str(item.path), caption=caption)

        self._run.log({item.name: logged(item) for item in media}, step=step)
