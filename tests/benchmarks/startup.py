"""Start-up of the listing commands against a bare interpreter: ``python -m tests.benchmarks.startup``.

Installs two small plugins beside our four, so that six are there. The interpreter and the commands take turns, so that
other work on the machine slows all of them alike; processor time hardly depends on it. Bytecode is cached, as it is
after an installation.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.packages.builder import HEADER, install, write_plugin

__all__ = ["BUDGET_MS", "overheads", "timings"]

BUDGET_MS = 120.0
BARE = "bare interpreter"
COMMANDS = {
    BARE: ["-c", "pass"],
    "cosmos --help": ["-m", "cosmos_core", "--help"],
    "cosmos plugins list": ["-m", "cosmos_core", "plugins", "list"],
    "cosmos recipes list": ["-m", "cosmos_core", "recipes", "list"],
}


def timings(env: dict[str, str], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Wall-clock and processor milliseconds of every call of every command; a first call of each is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            start, used = time.perf_counter(), _processor_seconds()
            subprocess.run([sys.executable, *arguments], env=env, stdout=subprocess.DEVNULL, check=True)
            if turn:
                times[name].append((1000 * (time.perf_counter() - start), 1000 * (_processor_seconds() - used)))
    return times


def _processor_seconds() -> float:
    """Used by all processes started from here that ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def overheads(repeats: int = 21) -> dict[str, tuple[float, float, float]]:
    """Median, minimum and processor milliseconds of a bare interpreter, and of each command beyond it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        guests = [write_plugin(root, f"acme_{name}", HEADER) for name in ("fifth", "sixth")]
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        site = install(root / "site", *guests)["PYTHONPATH"]
        path = os.pathsep.join(filter(None, [site, inherited.get("PYTHONPATH")]))
        times = timings({**inherited, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(root / "bytecode")}, repeats)
    totals = {name: _summary(calls) for name, calls in times.items()}
    bare = totals.pop(BARE)
    beyond = {name: (total[0] - bare[0], total[1] - bare[1], total[2] - bare[2]) for name, total in totals.items()}
    return {BARE: bare, **beyond}


def _summary(calls: list[tuple[float, float]]) -> tuple[float, float, float]:
    walls = [wall for wall, _ in calls]
    return statistics.median(walls), min(walls), statistics.median(used for _, used in calls)


def main() -> None:
    """Print the table."""
    for name, (median, least, processor) in overheads().items():
        note = "" if name == BARE else f" beyond it (budget {BUDGET_MS:.0f} ms)"
        print(f"{name}: median {median:.0f} ms, minimum {least:.0f} ms, processor {processor:.0f} ms{note}")


if __name__ == "__main__":
    main()
