"""Writes what each launch was told into the run directory, each file whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml
from attrs import evolve

from cosmos_core.config.dump import to_plain, to_toml, to_yaml
from cosmos_core.config.env import job_environment
from cosmos_core.plan.base import read_base
from cosmos_core.plan.layout import RUN_FORMAT, Record, RunLayout
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.trained import UNNUMBERED

__all__ = ["publish_record", "record_run", "record_sources", "replace_file"]


def replace_file(path: Path, content: bytes, *, writer: str = "") -> None:
    """Write a file under a hidden name and rename it. writer: tells apart those who may write at the same time."""
    hidden = path.with_name(f".{path.name}{writer}.partial")
    hidden.write_bytes(content)
    hidden.replace(path)


def record_run(plan: RunPlan, *, command: Sequence[str], recipe: str, overrides: Sequence[str]) -> RunPlan:
    """Create the run directory and ``launches/<n>/`` in it, with config.toml, config.yaml, config.pkl, launch_info.yaml
    and job_env.yaml; returns the plan with n."""
    layout = RunLayout(plan.run_dir)
    layout.checkpoints.mkdir(parents=True, exist_ok=True)
    layout.outcome.unlink(missing_ok=True)
    number = _next_launch(layout)
    record = layout.launch(number)
    record.root.mkdir()
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
        record.config_toml: to_toml(plan.config).encode(),
        record.config_yaml: to_yaml(plan.config).encode(),
        record.config_pkl: pickle.dumps(to_plain(plan.config)),
        record.launch_info: yaml.safe_dump(info, sort_keys=False).encode(),
        record.job_env: yaml.safe_dump(job_environment(), sort_keys=False).encode(),
    }
    for path, content in files.items():
        replace_file(path, content)
    return evolve(plan, launch=number)


def _next_launch(layout: RunLayout) -> int:
    """One more than the newest. The record of a run that began before launches had numbers is kept as well."""
    layout.launches.mkdir(exist_ok=True)
    numbers = [int(folder.name) for folder in layout.launches.iterdir() if folder.name.isdecimal()]
    newest = max(numbers, default=UNNUMBERED)
    if newest == UNNUMBERED and layout.config_toml.is_file():
        kept = layout.launch(UNNUMBERED)
        kept.root.mkdir(exist_ok=True)
        _copy(layout, kept)
    return newest + 1


def _copy(source: Record, target: Record) -> None:
    for old, new in zip(source.files, target.files, strict=True):
        if old.is_file():
            replace_file(new, old.read_bytes())


def publish_record(layout: RunLayout, launch: int | None) -> None:
    """Put a launch's record in the run directory itself, config.toml last: from now on it says what trains."""
    if launch is not None:
        _copy(layout.launch(launch), layout)


def _weights(path: Path | None) -> dict[str, str | None]:
    """The folder, and the repository and commit that a converted base came from."""
    if path is None:
        return {"path": None}
    origin = read_base(path).get("origin")
    return {"path": str(path), **({"origin": origin} if origin else {})}


def record_sources(plan: RunPlan, sources: Mapping[str, str]) -> None:
    """Add to the launch's launch_info.yaml what was fetched from where. sources: key -> repository@commit."""
    if sources and plan.launch is not None:
        path = RunLayout(plan.run_dir).launch(plan.launch).launch_info
        info = yaml.safe_load(path.read_text(encoding="utf-8"))
        replace_file(path, yaml.safe_dump({**info, "fetched": dict(sources)}, sort_keys=False).encode())
