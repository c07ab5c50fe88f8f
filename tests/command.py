"""Runs the command line as a person would: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "cosmos", "losses", "module", "rows"]

ROOT = Path(__file__).resolve().parents[1]


def module(
    *arguments: str, env: dict[str, str] | None = None, code: int | None = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """``python -m ...``; fails the test when the exit code is not `code` (None: any)."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if code is not None:
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def cosmos(
    *arguments: str, env: dict[str, str] | None = None, code: int | None = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The `cosmos` command."""
    return module("cosmos_core", *arguments, env=env, code=code, cwd=cwd)


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of every step, bit for bit."""
    return {row["step"]: (row["loss"], row["grad_norm"]) for row in rows(run_dir) if "loss" in row}
