"""Runs the command line as a person would: in a process of its own."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ROOT", "Start", "cosmos", "losses", "metric_records", "module", "running_children", "zygote"]

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"run", "data", "export", "convert", "eval", "generate", "chat"}
"""Commands that import torch, which a forked process has already."""
TORCH = find_spec("torch") is not None
PLACES = {
    "DATASET_PATH", "VIDEOPHYSICS_ROOT", "BASE_CHECKPOINT_PATH", "WAN_VAE_PATH", "VLM_SAFETENSORS_PATH",
    "IMAGINAIRE_OUTPUT_ROOT",
}  # fmt: skip
"""Variables that are read when a command runs; others may matter at import, so they get a fresh interpreter."""
Start = Callable[..., "subprocess.Popen[str]"]
"""What the fixture `start` gives."""


def module(
    *arguments: str,
    env: dict[str, str] | None = None,
    code: int | None = 0,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """``python -m ...``; fails the test when the exit code is not `code` (None: any), or after `timeout` seconds."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=timeout,
    )
    return _checked(done, code)


def cosmos(
    *arguments: str, env: dict[str, str] | None = None, code: int | None = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The `cosmos` command; forked from a process with the imports done where that makes no difference."""
    if arguments and arguments[0] in HEAVY and set(env or {}) <= PLACES and "--help" not in arguments and TORCH:
        return _checked(_forked(arguments, env or {}, cwd or Path.cwd()), code)
    return module("cosmos_core", *arguments, env=env, code=code, cwd=cwd)


def _checked(done: subprocess.CompletedProcess[str], code: int | None) -> subprocess.CompletedProcess[str]:
    if code is not None:
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done


def _forked(arguments: tuple[str, ...], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    folder = zygote()
    request = {
        "arguments": arguments,
        "env": {**os.environ, **env},
        "cwd": str(cwd),
        "stdout": str(folder / "stdout"),
        "stderr": str(folder / "stderr"),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "socket"))
        connection.sendall(json.dumps(request).encode() + b"\n")
        code = int(connection.makefile().readline())
    said = [(folder / name).read_text(errors="replace") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(arguments, code, *said)


@cache
def zygote() -> Path:
    """Folder of the process that forks, with its socket; one for each test process."""
    folder = Path(tempfile.mkdtemp(prefix="cosmos-zygote-"))
    atexit.register(shutil.rmtree, folder)
    process = subprocess.Popen([sys.executable, "-m", "tests.zygote", str(folder / "socket")], cwd=ROOT)
    atexit.register(process.kill)
    while not (folder / "socket").exists():
        assert process.poll() is None, "the forking process did not start"
        time.sleep(0.05)
    return folder


def running_children(argument: str) -> list[psutil.Process]:
    """Children of this process that have `argument` on their command line and have not ended."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if argument in child.cmdline()]


def metric_records(run_dir: Path) -> list[dict[str, Any]]:
    """Every record of metrics.jsonl."""
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> dict[int, tuple[float, float]]:
    """Loss and gradient norm of every step, bit for bit."""
    return {
        record["step"]: (record["loss"], record["grad_norm"]) for record in metric_records(run_dir) if "loss" in record
    }
