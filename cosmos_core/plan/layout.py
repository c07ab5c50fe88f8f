"""Every path in a run directory."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

__all__ = ["BASE_FILE", "RUN_FORMAT", "RunLayout", "iteration_name"]

BASE_FILE = "base.json"
"""Beside ``model/`` of a converted base: its ``origin``, and what its family needs to know of it."""
RUN_FORMAT = 1
"""Of ``launch_info.yaml`` and ``outcome.json``."""


def iteration_name(step: int) -> str:
    """Folder name of the checkpoint after `step` optimizer steps, e.g. ``iter_000000200``."""
    return f"iter_{step:09d}"


@frozen
class RunLayout:
    """Paths below ``<output root>/<project>/<group>/<name>``; building one creates nothing."""

    root: Path

    @property
    def config_toml(self) -> Path:
        """The resolved configuration, rereadable; the truth for every rank."""
        return self.root / "config.toml"

    @property
    def config_yaml(self) -> Path:
        """The resolved configuration for people and for old tools."""
        return self.root / "config.yaml"

    @property
    def config_pkl(self) -> Path:
        """The same as a pickled plain dictionary for old tools; nothing here reads it."""
        return self.root / "config.pkl"

    @property
    def launch_info(self) -> Path:
        """Command line, recipe, overrides, versions."""
        return self.root / "launch_info.yaml"

    @property
    def job_env(self) -> Path:
        """Allow-listed launch environment; never a secret."""
        return self.root / "job_env.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a finished step or validation."""
        return self.root / "metrics.jsonl"

    @property
    def wandb_id(self) -> Path:
        """Id of the W&B run, when W&B is on."""
        return self.root / "wandb_id.txt"

    @property
    def outcome(self) -> Path:
        """How the last launch ended: ``{"outcome": "done", "step": 500, ...}``, else "stopped", "interrupted",
        "diverged", "refused" or "failed"."""
        return self.root / "outcome.json"

    @property
    def stop_request(self) -> Path:
        """Exists while somebody asks the run to save and stop."""
        return self.root / ".stop_requested"

    @property
    def tenant(self) -> Path:
        """Locked while a launch runs; names its process."""
        return self.root / ".tenant"

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
        """What scoring the answers after `step` steps wrote."""
        return self.root / "validation" / f"step_{step:09d}"

    @property
    def evaluation(self) -> Path:
        """What `cosmos eval` wrote."""
        return self.root / "evaluation"

    def callback(self, folder: str) -> Path:
        """A callback's own folder."""
        return self.root / folder
