"""Every path in a run directory."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from cosmos_core.errors import Problem, UserError
from cosmos_core.names import path_fault

__all__ = [
    "ADAPTER_BASE",
    "BASE_FILE",
    "EXPORT_CONFIG",
    "EXPORT_FILE",
    "FROZEN_BASE",
    "LAUNCH_FILE",
    "LAUNCH_INFO",
    "MODEL",
    "OTHER_PLACE",
    "RUN_FORMAT",
    "SAMPLES",
    "Record",
    "RunPaths",
    "check_place",
    "iteration_name",
    "step_of",
]

_ITERATION = re.compile(r"iter_(\d{9})")

MODEL = "model"
"""Folder of the weights in a checkpoint."""
FROZEN_BASE = "frozen_base.json"
"""Beside ``model/`` in a checkpoint: the base that its frozen weights are from."""
ADAPTER_BASE = "adapter_base.json"
"""The same in checkpoints of older versions that hold adapters alone."""
BASE_FILE = "base.json"
"""Beside ``model/`` of a converted base: its source and published configuration."""
EXPORT_FILE = "cosmos_export.json"
"""In an export: the run it came from, and defaults for using it."""
EXPORT_CONFIG = "cosmos_config.toml"
"""In an export of a run: its resolved configuration."""
RUN_FORMAT = 1
"""Format number of ``launch_info.yaml`` and ``outcome.json``."""

SAMPLES = "samples_rank"
"""Begins the names of logs of samples."""

OTHER_PLACE = "choose another --output-root or job.name"
"""What to do where a run directory cannot be made."""

LAUNCH_INFO = "launch_info.yaml"
LAUNCH_FILE = "launch.json"
"""Beside ``model/`` of a run's checkpoint: the number of the launch that trained it."""


def iteration_name(step: int) -> str:
    """Folder name of the checkpoint after `step` optimizer steps, e.g. ``iter_000000200``."""
    return f"iter_{step:09d}"


def check_place(run_dir: Path) -> None:
    """Raises UserError when no folder can have this path."""
    path = str(run_dir.absolute())
    if fault := path_fault(path):
        problem = Problem(message=f"the path of the run directory {fault}", file=repr(path), hint=OTHER_PLACE)
        raise UserError("the run directory cannot be made; nothing was started", [problem])


def step_of(checkpoint: Path) -> int | None:
    """The step in a checkpoint's folder name; None for any other folder."""
    match = _ITERATION.fullmatch(checkpoint.name)
    return int(match.group(1)) if match else None


@frozen
class Record:
    """The record of one launch: the configuration in three formats, the command, the environment."""

    root: Path

    @property
    def config_toml(self) -> Path:
        """The resolved configuration; the one that is read back."""
        return self.root / "config.toml"

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration for people and old tools."""
        return self.root / "config.yaml"

    @property
    def config_pkl(self) -> Path:
        """The same as a pickled plain dictionary for old tools; never read here."""
        return self.root / "config.pkl"

    @property
    def launch_info(self) -> Path:
        """Command line, recipe, overrides, versions."""
        return self.root / LAUNCH_INFO

    @property
    def job_env(self) -> Path:
        """Allow-listed launch environment; never a secret."""
        return self.root / "job_env.yaml"

    def left_out(self, rollback: int) -> Path:
        """The samples that a rollback of this number left out, one a line."""
        return self.root / f"left_out_{rollback}.jsonl"

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them; config.toml last."""
        return (self.job_env, self.launch_info, self.config_pkl, self.config_yaml, self.config_toml)


@frozen
class RunPaths(Record):
    """Paths below ``<output root>/<project>/<group>/<name>``; building one creates nothing.

    The record in the run directory itself is that of the newest launch that completed a step.
    """

    @property
    def launches(self) -> Path:
        """The record of every launch, in folders 1, 2, ...; a record never changes."""
        return self.root / "launches"

    @property
    def launch_numbers(self) -> list[int]:
        """Numbers of the launches that there are, in order."""
        return sorted(int(folder.name) for folder in self.launches.glob("*") if folder.name.isdecimal())

    def launch(self, number: int) -> Record:
        """The record of one launch."""
        return Record(self.launches / str(number))

    @property
    def metrics(self) -> Path:
        """One JSON object for each finished step and validation."""
        return self.root / "metrics.jsonl"

    def log(self, rank: int) -> Path:
        """What one rank logged, over all launches."""
        return self.root / "logs" / f"rank_{rank}.log"

    def samples(self, rank: int) -> Path:
        """Every sample that one rank trained on, when `trainer.log_samples` is set."""
        return self.root / f"{SAMPLES}{rank}.jsonl"

    @property
    def wandb_id(self) -> Path:
        """Id of the W&B run, when W&B is on."""
        return self.root / "wandb_id.txt"

    @property
    def outcome(self) -> Path:
        """How the last launch ended: ``{"outcome": "done", "step": 500, ...}``.

        Other outcomes are "stopped", "interrupted", "diverged", "refused" and "failed".
        """
        return self.root / "outcome.json"

    @property
    def report(self) -> Path:
        """The page of the run, written when a launch has ended."""
        return self.root / "report.html"

    @property
    def stop_request(self) -> Path:
        """Exists while the run is asked to save and stop."""
        return self.root / ".stop_requested"

    @property
    def error_files(self) -> Path:
        """Where failing ranks say why, while a launch of several runs."""
        return self.root / ".errors"

    @property
    def beats(self) -> Path:
        """Where each rank says what it is doing, while it runs."""
        return self.root / ".beats"

    @property
    def lock(self) -> Path:
        """Locked while a launch runs; names its process."""
        return self.root / ".lock"

    @property
    def checkpoints(self) -> Path:
        """All checkpoints."""
        return self.root / "checkpoints"

    @property
    def latest(self) -> Path:
        """Name of the newest complete checkpoint folder, one line."""
        return self.checkpoints / "latest_checkpoint.txt"

    def iteration(self, step: int) -> Path:
        """The checkpoint after `step` optimizer steps."""
        return self.checkpoints / iteration_name(step)

    def validation(self, step: int) -> Path:
        """Files of scoring the answers after `step` steps."""
        return self.root / "validation" / f"step_{step:09d}"

    @property
    def generated(self) -> Path:
        """Clips of `cosmos generate`, one folder a command."""
        return self.root / "generated"

    @property
    def evaluation(self) -> Path:
        """Files of `cosmos eval`."""
        return self.root / "evaluation"

    def callback(self, folder: str) -> Path:
        """A callback's own folder."""
        return self.root / folder
