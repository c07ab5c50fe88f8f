"""Writes what a run was told into its run directory, each file whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from cosmos_core.config.dump import to_plain, to_toml, to_yaml
from cosmos_core.config.env import job_environment
from cosmos_core.plan.base import read_base
from cosmos_core.plan.layout import RUN_FORMAT, RunLayout
from cosmos_core.plan.plan import RunPlan

__all__ = ["record_origins", "record_run", "replace_file"]


def replace_file(path: Path, content: bytes, *, writer: str = "") -> None:
    """Write a file under a hidden name and rename it. writer: tells apart those who may write at the same time."""
    hidden = path.with_name(f".{path.name}{writer}.partial")
    hidden.write_bytes(content)
    hidden.replace(path)


def record_run(plan: RunPlan, *, command: Sequence[str], recipe: str, overrides: Sequence[str]) -> None:
    """Create the run directory with config.toml, config.yaml, config.pkl, launch_info.yaml and job_env.yaml."""
    layout = RunLayout(plan.run_dir)
    layout.checkpoints.mkdir(parents=True, exist_ok=True)
    layout.outcome.unlink(missing_ok=True)
    info = {
        "format": RUN_FORMAT,
        "cmd": " ".join(command),
        "args_cfg_path": recipe,
        "args_override": list(overrides),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "processes": plan.degrees.world,
        "weights": {"kind": plan.resume.kind, **_weights(plan.resume.path)},
        "distributions": plan.distributions,
    }
    files = {
        layout.config_toml: to_toml(plan.config).encode(),
        layout.config_yaml: to_yaml(plan.config).encode(),
        layout.config_pkl: pickle.dumps(to_plain(plan.config)),
        layout.launch_info: yaml.safe_dump(info, sort_keys=False).encode(),
        layout.job_env: yaml.safe_dump(job_environment(), sort_keys=False).encode(),
    }
    for path, content in files.items():
        replace_file(path, content)


def _weights(path: Path | None) -> dict[str, str | None]:
    """The folder, and the repository and commit that a converted base came from."""
    if path is None:
        return {"path": None}
    origin = read_base(path).get("origin")
    return {"path": str(path), **({"origin": origin} if origin else {})}


def record_origins(layout: RunLayout, origins: Mapping[str, str]) -> None:
    """Add to launch_info.yaml what was fetched from where, once it is known. origins: key -> repository@commit."""
    if origins:
        info = yaml.safe_load(layout.launch_info.read_text(encoding="utf-8"))
        replace_file(layout.launch_info, yaml.safe_dump({**info, "fetched": dict(origins)}, sort_keys=False).encode())
