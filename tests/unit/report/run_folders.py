"""Run directories as launches leave them, without training anything."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["aged", "checkpoint", "run_folder", "step_record"]

CONFIG = """
[job]
task = "tiny"
name = "NAME"

[optimizer]
lr = RATE
betas = [0.9, 0.95]

[trainer]
max_iter = 20

[dataloader_train.dataset]
type = "tiny"
path = "/data/clips"
"""


def step_record(step: int, loss: float | None = 0.5) -> dict[str, Any]:
    times = {"seconds": 0.5, "data_wait": 0.1, "tokens": 100}
    return {"step": step, "lr": 1e-3, **times, "loss": loss, "grad_norm": 1.0}


def run_folder(
    root: Path,
    name: str = "first",
    *,
    steps: int = 10,
    rate: float = 0.001,
    outcome: Mapping[str, Any] | None = None,
    records: Iterable[Mapping[str, Any]] | None = None,
    age: float = 0.0,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """A run below `root`. age: seconds since it was written."""
    folder = root / "cosmos3/sft" / name
    launch = folder / "launches/1"
    launch.mkdir(parents=True)
    config = CONFIG.replace("NAME", name).replace("RATE", str(rate))
    facts = {"cmd": "cosmos run hello", "args_cfg_path": "hello", "args_override": [], "started": "2026-01-02T03:04:05"}
    text = yaml.safe_dump({**facts, "weights": {"kind": "scratch", "path": None}, "processes": 2, **(info or {})})
    for place in (launch, folder):
        (place / "config.toml").write_text(config)
        (place / "launch_info.yaml").write_text(text)
    rows = (
        records if records is not None else [*map(step_record, range(1, steps + 1)), {"step": steps, "val_loss": 0.4}]
    )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if outcome is not None:
        (folder / "outcome.json").write_text(json.dumps({"format": 1, **outcome}))
    aged(folder, age)
    return folder


def aged(folder: Path, seconds: float) -> None:
    """Make every file in a folder older."""
    for file in folder.rglob("*"):
        stamp = file.stat().st_mtime - seconds
        os.utime(file, (stamp, stamp))


def checkpoint(run: Path, step: int, size: int = 1000) -> Path:
    """A complete checkpoint of a run."""
    folder = run / f"checkpoints/iter_{step:09d}"
    for part in ("model", "trainer"):
        (folder / part).mkdir(parents=True)
        (folder / part / ".metadata").write_bytes(b"")
    (folder / "model/__0_0.distcp").write_bytes(b"x" * size)
    return folder
