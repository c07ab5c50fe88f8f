"""Writes the record of each launch into the run directory; every file is replaced atomically."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from attrs import evolve

from cosmos_core.config.dump import to_plain, to_toml, to_yaml
from cosmos_core.config.env import job_environment
from cosmos_core.config.secrets import without_secrets
from cosmos_core.plan.base import read_base
from cosmos_core.plan.paths import LAUNCH_INFO, RUN_FORMAT, Record, RunPaths
from cosmos_core.plan.plan import RunPlan
from cosmos_core.plan.trained import UNNUMBERED
from cosmos_core.strict_json import loads

__all__ = [
    "add_to_record",
    "content_of",
    "publish_record",
    "record_run",
    "recorded_folders",
    "replace_file",
    "synced_file",
]

OF_TAGS = (RecursionError, AttributeError, LookupError, TypeError, OverflowError)
"""What PyYAML raises for values that do not fit their tags, and for deep nesting."""


_FOLDERS = "model_folders"


def content_of(path: Path) -> Any:
    """What a file of JSON or YAML holds; None when it is missing or damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        return loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, *OF_TAGS):
        return None


def replace_file(path: Path, content: bytes, *, writer: str = "") -> None:
    """Write a file under a hidden name and rename it. writer: a name for each process that may write at once.

    Raises OSError; nothing half-written stays then.
    """
    hidden = path.with_name(f".{path.name}{writer}.partial")
    try:
        hidden.write_bytes(content)
        hidden.replace(path)
    except OSError:
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when the block ends. Raises OSError."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def record_run(
    plan: RunPlan,
    *,
    command: Sequence[str],
    recipe: str,
    overrides: Sequence[str],
    restart: Mapping[str, Any] | None = None,
) -> RunPlan:
    """Create the run directory and ``launches/<n>/`` in it; returns the plan with n.

    The folder holds config.toml, config.yaml, config.pkl, launch_info.yaml and job_env.yaml.
    restart: why the command started the run again, and how often it did; recorded when there is something.
    """
    paths = RunPaths(plan.run_dir)
    paths.checkpoints.mkdir(parents=True, exist_ok=True)
    before = content_of(paths.outcome)
    paths.outcome.unlink(missing_ok=True)
    number = _next_launch(paths)
    record = paths.launch(number)
    record.root.mkdir()
    info = {
        "format": RUN_FORMAT,
        "cmd": " ".join(command),
        "args_cfg_path": recipe,
        "args_override": list(overrides),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "processes": plan.degrees.world,
        "weights": {"kind": plan.weights.kind, **_weights(plan.weights.path)},
        "distributions": plan.distributions,
        **({_FOLDERS: dict(digests)} if (digests := plan.config.model.folder_digests) else {}),
        **({"restart": dict(restart)} if restart else {}),
        **({"before": before} if isinstance(before, dict) else {}),  # A refused launch leaves the run as it was.
    }
    files = {
        record.config_toml: to_toml(plan.config).encode(),
        record.config_yaml: to_yaml(plan.config).encode(),
        record.config_pkl: pickle.dumps(to_plain(plan.config)),
        record.launch_info: _dump(info),
        record.job_env: _dump(job_environment()),
    }
    for path, content in files.items():
        replace_file(path, content)
    return evolve(plan, launch=number)


def _dump(facts: Any) -> bytes:
    return without_secrets(yaml.safe_dump(facts, sort_keys=False)).encode()


def _next_launch(paths: RunPaths) -> int:
    """One more than the newest. The record of a run that began before launches had numbers is kept as well."""
    paths.launches.mkdir(exist_ok=True)
    newest = max(paths.launch_numbers, default=UNNUMBERED)
    if newest == UNNUMBERED and paths.config_toml.is_file():
        unnumbered = paths.launch(UNNUMBERED)
        unnumbered.root.mkdir(exist_ok=True)
        _copy(paths, unnumbered)
    return newest + 1


def _copy(source: Record, target: Record) -> None:
    for old, new in zip(source.files, target.files, strict=True):
        if old.is_file():
            replace_file(new, old.read_bytes())


def recorded_folders(config_toml: Path) -> dict[str, str]:
    """`ModelConfig.folder_digests` of the launch whose configuration this is; {} when its record has none."""
    info = content_of(config_toml.with_name(LAUNCH_INFO))
    folders = info.get(_FOLDERS) if isinstance(info, dict) else None
    return folders if isinstance(folders, dict) else {}


def publish_record(paths: RunPaths, launch: int | None) -> None:
    """Copy a launch's record into the run directory itself, config.toml last: this launch trains the run now."""
    if launch is not None:
        _copy(paths.launch(launch), paths)


def _weights(path: Path | None) -> dict[str, str | None]:
    """The folder, and the repository and commit that a converted base came from."""
    if path is None:
        return {"path": None}
    origin = read_base(path).get("origin")
    return {"path": str(path), **({"origin": origin} if origin else {})}


def add_to_record(paths: RunPaths, launch: int | None, name: str, facts: Mapping[str, Any]) -> None:
    """Add a table to the launch's launch_info.yaml. facts: its entries; without any nothing is added."""
    if facts and launch is not None:
        path = paths.launch(launch).launch_info
        info = yaml.safe_load(path.read_text(encoding="utf-8"))
        replace_file(path, _dump({**info, name: dict(facts)}))
