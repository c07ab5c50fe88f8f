"""One run of the real command, watched from outside: its rows, phases, memory and checkpoint."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from attrs import define, field, frozen

from cosmos_core.launch.bytecode import keeps_bytecode
from cosmos_core.launch.outcome import EXIT_CODES

__all__ = ["Measured", "Observed", "observe", "write_bytecode"]

POLL = 0.2
PACKAGES = ("torch", "transformers", "diffusers", "cosmos_core", "cosmos_vfm", "cosmos_vlm")
IMPORTED = (
    *("cosmos_core.cli.main", "cosmos_core.train.worker", "cosmos_core.train.run", "cosmos_vfm.family"),
    *("cosmos_vfm.callbacks.every_n_draw_sample", "cosmos_vlm.family", "torch._inductor.compile_fx"),
    *("diffusers.models.autoencoders.autoencoder_kl_wan", "transformers.models.auto.tokenization_auto"),
)
PATIENCE = 60.0
"""Seconds in which processes must be gone after they were killed."""
SAVED = re.compile(r"saved \S*iter_\d+(?:: training waited ([\d.]+) s, ([\d.]+) s in the background)?")
"""The log's line of a complete save."""


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
    ended after its last step, 'cut' when the benchmark had to end, 'out of memory', 'over the limit', or the exit code.
    asked, ended: seconds at which it was asked to stop, and was gone. rows: of this start. earlier: rows of the run
    that it resumed.
    """

    root: Path
    began: float
    first_row: float | None = None
    outcome: str = ""
    asked: float | None = None
    ended: float = 0.0
    rows: list[dict[str, Any]] = field(factory=list)
    earlier: int = 0

    @property
    def folder(self) -> Path | None:
        """The run directory, once it exists."""
        return next((path.parent for path in self.root.glob("*/*/*/launches")), None)

    @property
    def log(self) -> Path:
        """All that the command printed."""
        return self.root / "log.txt"

    @property
    def printed(self) -> str:
        """The text of the log."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def saved(self) -> dict[str, float] | None:
        """What the log says of the first complete save, by column; None before. Empty for one not in the background."""
        found = SAVED.search(self.printed)
        if found is None or found[1] is None:
            return None if found is None else {}
        return {"training waited s": float(found[1]), "save s": float(found[2])}

    @property
    def last_words(self) -> str:
        """The last line with an error, to show beside an outcome."""
        return next((line.strip()[:160] for line in reversed(self.printed.splitlines()) if "rror" in line), "")

    @property
    def recomputation(self) -> str:
        """What 'auto' took, and the peak it expected; '' where a mode was set."""
        text = " ".join(self.printed.split())
        took = re.search(r"recomputation: ([^,]+), by mode = auto( \(about [^)]+\))?", text)
        return "".join(part or "" for part in took.groups()) if took else ""

    @property
    def trace(self) -> Path | None:
        """Rank 0's profile, where the run wrote one."""
        return next(self.folder.rglob("trace_rank0.json.gz"), None) if self.folder is not None else None

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of each phase of the start; the first is what the command did before it started ranks."""
        if self.folder is None:
            return {}
        launch = max((self.folder / "launches").iterdir(), key=lambda path: int(path.name))
        if not (launch / "job_env.yaml").is_file():
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
    def checkpoint_gb(self) -> float | None:
        """Gigabytes of the newest checkpoint; None without one."""
        latest = self.folder / "checkpoints/latest_checkpoint.txt" if self.folder is not None else None
        if latest is None or not latest.is_file():
            return None
        newest = latest.parent / latest.read_text(encoding="utf-8").strip()
        return sum(path.stat().st_size for path in newest.rglob("*") if path.is_file()) / 1e9


def write_bytecode(folder: Path) -> None:
    """Write what is missing of the bytecode of all that runs import, as an installation does.

    folder: for it where Python must not keep it beside the modules, as in many containers; for all processes to come.
    """
    if all(map(keeps_bytecode, PACKAGES)):
        return
    print("python lacks bytecode of what runs import; it is written first, as an installation does", flush=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder / "bytecode"))
    subprocess.run([sys.executable, "-c", f"import {', '.join(IMPORTED)}"], check=True)


def observe(
    arguments: Sequence[str],
    root: Path,
    *,
    steps: int,
    limit: float,
    save: bool,
    stop_at: int | None = None,
    tell: Callable[[Observed], None] = lambda seen: None,
) -> Observed:
    """Run ``cosmos`` with these arguments; rows are printed as they come.

    root: of a run that is resumed where there is one. limit: seconds after which it is ended. save: whether it goes on
    after `steps` rows, until a save is complete. stop_at: after so many rows every process of it gets SIGTERM, as from
    Slurm. tell: called when there are new rows, and before a run is ended because this process must end.
    """
    root.mkdir(parents=True, exist_ok=True)
    seen = Observed(root, time.time())
    seen.earlier = len(_rows(seen))
    with seen.log.open("w") as log:
        command = [sys.executable, "-m", "cosmos_core", *arguments, "--output-root", str(root)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and not seen.outcome:
                time.sleep(POLL)
                if _read_rows(seen):
                    tell(seen)
                elapsed = time.time() - seen.began
                if stop_at is not None and seen.asked is None and len(seen.rows) >= stop_at:
                    seen.asked = elapsed
                    _signal((process, *psutil.Process(process.pid).children(recursive=True)), signal.SIGTERM)
                if elapsed > limit:
                    seen.outcome = "over the limit"
                elif seen.asked is None and len(seen.rows) >= steps and (not save or seen.saved is not None):
                    seen.outcome = "enough"
        except SystemExit:
            _read_rows(seen)
            seen.outcome = "cut"
            tell(seen)
            raise
        finally:
            _end(process)
    seen.ended = time.time() - seen.began
    _read_rows(seen)
    seen.outcome = seen.outcome or _outcome(seen, process.returncode)
    return seen


def _rows(seen: Observed) -> list[dict[str, Any]]:
    """Of steps."""
    path = seen.folder / "metrics.jsonl" if seen.folder is not None else None
    if path is None or not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return [row for row in map(json.loads, lines) if "loss" in row]


def _read_rows(seen: Observed) -> bool:
    """Rows of steps that were added since, printed; whether there were any."""
    rows, before = _rows(seen)[seen.earlier :], len(seen.rows)
    for row in rows[before:]:
        at = time.time() - seen.began
        seen.first_row = at if seen.first_row is None else seen.first_row
        waited = f"{row['data_wait']:.3f} s of it for data"
        print(f"  at {at:.1f} s: step {row['step']}, {row['seconds']:.3f} s, {waited}", flush=True)
    seen.rows = rows
    return len(rows) > before


def _signal(processes: Iterable[subprocess.Popen[bytes] | psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # Some end between two signals.
            process.send_signal(number)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the command with all its processes, if it still runs, and wait until these have given their devices back."""
    if process.poll() is None:
        members = psutil.Process(process.pid).children(recursive=True)
        _signal((process, *members), signal.SIGKILL)
        psutil.wait_procs(members, timeout=PATIENCE)
    process.wait()


def _outcome(seen: Observed, code: int) -> str:
    if code in (EXIT_CODES["done"], EXIT_CODES["stopped"]):
        return "done" if code == EXIT_CODES["done"] else "stopped"
    return "out of memory" if "out of memory" in seen.printed else f"exit {code}"
