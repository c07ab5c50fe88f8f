"""One run of the real command, watched from outside: its rows, phases, memory and checkpoint."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml
from attrs import define, field, frozen

from cosmos_core.launch.bytecode import keeps_bytecode
from cosmos_core.launch.outcome import EXIT_CODES

__all__ = ["Measured", "Observed", "observe", "with_bytecode"]

POLL = 0.2
PACKAGES = ("torch", "transformers", "diffusers", "cosmos_core", "cosmos_vfm", "cosmos_vlm")
IMPORTED = (
    *("cosmos_core.cli.main", "cosmos_core.train.worker", "cosmos_core.train.run", "cosmos_vfm.family"),
    *("cosmos_vfm.callbacks.every_n_draw_sample", "cosmos_vlm.family", "torch._inductor.compile_fx"),
    *("diffusers.models.autoencoders.autoencoder_kl_wan", "transformers.models.auto.tokenization_auto"),
)
PATIENCE = 60.0
"""Seconds in which processes must be gone after they were asked to end."""


@frozen
class Measured:
    """GiB at the peak of a run: torch's allocated and reserved memory, and what the driver says is taken."""

    allocated: float
    reserved: float
    card: float


@define
class Observed:
    """What a run left behind. root: above run directories. began: when the command was given, since the epoch.

    first_row: seconds from there to the first row; None without one. outcome: 'done', 'stopped', 'enough' when it was
    ended after its last step, 'out of memory', 'over the limit', or the exit code. asked, ended: seconds at which it
    was asked to stop, and was gone.
    """

    root: Path
    began: float
    first_row: float | None = None
    outcome: str = ""
    asked: float | None = None
    ended: float = 0.0
    rows: list[dict[str, Any]] = field(factory=list)

    @property
    def folder(self) -> Path | None:
        """The run directory, once it exists."""
        return next((path.parent for path in self.root.glob("*/*/*/launches")), None)

    @property
    def log(self) -> Path:
        """All that the command printed."""
        return self.root / "log.txt"

    @property
    def last_words(self) -> str:
        """The last line with an error, to show beside an outcome."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.strip()[:160] for line in reversed(lines) if "rror" in line), "")

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of each phase of the start; the first is what the command did before it started ranks."""
        launch = self.folder / "launches/1" if self.folder is not None else None
        if launch is None or not (launch / "job_env.yaml").is_file():
            return {}
        info = yaml.safe_load((launch / "launch_info.yaml").read_text(encoding="utf-8"))
        planned = (launch / "job_env.yaml").stat().st_mtime - self.began
        return {"command": round(planned, 1), **info.get("startup_seconds", {})}

    @property
    def peak_gib(self) -> list[float]:
        """Most memory allocated on each rank's device, as `device_monitor` read it."""
        return self._device_column("peak_gpu_mem_gb")

    @property
    def measured(self) -> Measured | None:
        """Most memory on any rank's device, as torch and the driver say; None without a device."""
        columns = ("peak_gpu_mem_gb", "peak_gpu_mem_reserved_gb", "gpu_mem_used_gb")
        peaks = [max(self._device_column(name), default=None) for name in columns]
        return Measured(*(peak for peak in peaks if peak is not None)) if None not in peaks else None

    def _device_column(self, name: str) -> list[float]:
        """The largest value on each rank."""
        path = next(self.folder.rglob("prof_data.csv"), None) if self.folder is not None else None
        if path is None:
            return []
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row[name]]
        ranks = sorted({int(row["rank"]) for row in rows})
        return [max(float(row[name]) for row in rows if int(row["rank"]) == rank) for rank in ranks]

    @property
    def checkpoint(self) -> tuple[float, float] | None:
        """Gigabytes of the newest checkpoint, and seconds from the last row until it was complete."""
        latest = self.folder / "checkpoints/latest_checkpoint.txt" if self.folder is not None else None
        if latest is None or self.folder is None or not latest.is_file():
            return None
        newest = latest.parent / latest.read_text(encoding="utf-8").strip()
        size = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
        return size / 1e9, latest.stat().st_mtime - (self.folder / "metrics.jsonl").stat().st_mtime


def with_bytecode(folder: Path) -> dict[str, str]:
    """The environment of runs, with bytecode of all that they import, as after an installation; missing one is written.

    folder: for it where Python keeps none beside the modules, as in many containers.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if all(map(keeps_bytecode, PACKAGES)):
        return environment
    print("python keeps no bytecode of all packages here; it is written first, as an installation does", flush=True)
    environment.setdefault("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))
    subprocess.run([sys.executable, "-c", f"import {', '.join(IMPORTED)}"], env=environment, check=True)
    return environment


def observe(
    arguments: Sequence[str],
    root: Path,
    *,
    steps: int,
    limit: float,
    save: bool,
    stop_at: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Observed:
    """Run ``cosmos`` with these arguments; rows are printed as they come.

    limit: seconds after which it is ended. save: whether it may go on after `steps` rows, to save. stop_at: after so
    many rows every process of it gets SIGTERM, as from Slurm. env: its environment; this process's when absent.
    """
    root.mkdir(parents=True)
    seen = Observed(root, time.time())
    with seen.log.open("w") as log:
        command = [sys.executable, "-m", "cosmos_core", *arguments, "--output-root", str(root)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        try:
            while process.poll() is None and not seen.outcome:
                time.sleep(POLL)
                _read_rows(seen)
                elapsed = time.time() - seen.began
                if stop_at is not None and seen.asked is None and len(seen.rows) >= stop_at:
                    seen.asked = elapsed
                    for member in (process, *psutil.Process(process.pid).children(recursive=True)):
                        member.send_signal(signal.SIGTERM)
                if elapsed > limit:
                    seen.outcome = "over the limit"
                elif not save and len(seen.rows) >= steps:
                    seen.outcome = "enough"
        finally:
            _end(process)
    seen.ended = time.time() - seen.began
    _read_rows(seen)
    seen.outcome = seen.outcome or _outcome(seen, process.returncode)
    return seen


def _read_rows(seen: Observed) -> None:
    """Rows of steps that were added since, printed."""
    path = seen.folder / "metrics.jsonl" if seen.folder is not None else None
    if path is None or not path.is_file():
        return
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    for row in rows[len(seen.rows) :]:
        at = time.time() - seen.began
        seen.first_row = at if seen.first_row is None else seen.first_row
        waited = f"{row['data_wait']:.3f} s of it for data"
        print(f"  at {at:.1f} s: step {row['step']}, {row['seconds']:.3f} s, {waited}", flush=True)
    seen.rows = rows


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command, if it still runs, and wait until its ranks have given their devices back."""
    if process.poll() is None:
        members = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        _, alive = psutil.wait_procs(members, timeout=PATIENCE)
        for member in alive:
            member.kill()
    process.wait()


def _outcome(seen: Observed, code: int) -> str:
    if code in (EXIT_CODES["done"], EXIT_CODES["stopped"]):
        return "done" if code == EXIT_CODES["done"] else "stopped"
    text = seen.log.read_text(encoding="utf-8", errors="replace")
    return "out of memory" if "out of memory" in text else f"exit {code}"
