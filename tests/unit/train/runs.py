"""Short runs of the toy recipe in this process, with what they log and what happens in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cosmos_core.distributed import local_mesh
from cosmos_core.plan.make import make_plan
from cosmos_core.plan.record import record_run
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes import load
from cosmos_core.train import Callback, Trainer
from cosmos_core.train.build import build_trainer
from cosmos_core.train.checkpointing import load_training_state
from cosmos_core.train.tracker import Tracker, TrackerGroup

__all__ = ["Listening", "ready", "steps_of"]

PLUGINS = PluginManager.discover()
SHORT = (
    "scheduler.cycle_lengths=[6]",
    "scheduler.warm_up_steps=[1]",
    "trainer.max_iter=6",
    "trainer.validation_iter=3",
    "checkpoint.save_iter=2",
    "model.noise=0.3",
    "dataloader_train.max_samples_per_batch=5",
    "dataloader_train.dataset.broken=9",
    "dataloader_train.max_bad_sample_fraction=0.5",
)


class Rows(list[dict[str, Any]], Tracker):
    """A tracker that keeps what is logged."""

    def log(self, row: dict[str, Any]) -> None:
        self.append(row)

    def rewind(self, step: int) -> None:
        self[:] = [row for row in self if row["step"] <= step]

    @property
    def steps(self) -> list[int]:
        """Of the rows of steps."""
        return [row["step"] for row in self if "loss" in row]


class Listening(Callback):
    """Keeps the events of a run with the step they came at; `then` is called on each. Saves a count of its own."""

    def __init__(self, then: Callable[[Trainer, str], None] = lambda trainer, event: None) -> None:
        self.then = then
        self.events: list[tuple[str, int]] = []
        self.saved = 0

    def heard(self, event: str, trainer: Trainer) -> None:
        self.events.append((event, trainer.step))
        self.then(trainer, event)

    def train_start(self, trainer: Trainer) -> None:
        self.heard("train_start", trainer)

    def step_start(self, trainer: Trainer) -> None:
        self.heard("step_start", trainer)

    def after_backward(self, trainer: Trainer) -> None:
        self.heard("after_backward", trainer)

    def before_optimizer_step(self, trainer: Trainer) -> None:
        self.heard("before_optimizer_step", trainer)

    def step_end(self, trainer: Trainer) -> None:
        self.heard("step_end", trainer)

    def checkpoint_saved(self, trainer: Trainer, path: Path) -> None:
        assert path == trainer.paths.iteration(trainer.saved_step)
        self.saved += 1
        self.heard("checkpoint_saved", trainer)

    def rolled_back(self, trainer: Trainer) -> None:
        self.heard("rolled_back", trainer)

    def train_end(self, trainer: Trainer) -> None:
        self.heard("train_end", trainer)

    def failed(self, trainer: Trainer, error: BaseException) -> None:
        self.heard("failed", trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"saved": torch.tensor(self.saved)}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        self.saved = int(values["saved"])


def ready(
    root: Path, *overrides: str, listening: Listening | None = None, recorded: bool = False
) -> tuple[Trainer, Rows]:
    """A trainer whose run directory lies below `root`, restored if there is something, and the rows it will log.

    recorded: whether this is a launch with a number and a record.
    """
    config = load("hello", (*SHORT, *overrides), plugins=PLUGINS)
    plan = make_plan(config, output_root=root, world=1, distributions={})
    if recorded:
        plan = record_run(plan, command=("cosmos", "run"), recipe="hello", overrides=overrides)
    trainer, rows = build_trainer(plan, PLUGINS, local_mesh()), Rows()
    trainer.trackers = TrackerGroup({"rows": rows})
    if listening is not None:
        trainer.callbacks["listening"] = listening
    load_training_state(trainer, plan.weights)
    return trainer, rows


def steps_of(trainer: Trainer) -> list[int]:
    """Of the checkpoints that there are."""
    return sorted(int(path.name.removeprefix("iter_")) for path in trainer.paths.checkpoints.glob("iter_*"))
