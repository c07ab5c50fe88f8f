"""Start-up of the listing commands against a bare interpreter: ``python -m tests.benchmarks.startup``.

Installs two small plugins beside our four, so that six are there. The interpreter and the commands take turns, so that
other work on the machine slows all of them alike. Bytecode is cached, as it is after an installation.
"""

from __future__ import annotations

import os
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


def timings(env: dict[str, str], repeats: int) -> dict[str, list[float]]:
    """Wall-clock milliseconds of every command, after one call each that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(repeats + 1):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], env=env, stdout=subprocess.DEVNULL, check=True)
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def overheads(repeats: int = 21) -> dict[str, tuple[float, float]]:
    """Median and minimum milliseconds of each command beyond those of the bare interpreter; the latter's own first."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        guests = [write_plugin(root, f"acme_{name}", HEADER) for name in ("fifth", "sixth")]
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        site = install(root / "site", *guests)["PYTHONPATH"]
        path = os.pathsep.join(filter(None, [site, inherited.get("PYTHONPATH")]))
        times = timings({**inherited, "PYTHONPATH": path, "PYTHONPYCACHEPREFIX": str(root / "bytecode")}, repeats)
    bare = times.pop(BARE)
    return {
        BARE: (statistics.median(bare), min(bare)),
        **{
            name: (statistics.median(each) - statistics.median(bare), min(each) - min(bare))
            for name, each in times.items()
        },
    }


def main() -> None:
    """Print medians and minima."""
    for name, (median, least) in overheads().items():
        plus = "" if name == BARE else "+"
        budget = "" if name == BARE else f" (budget {plus}{BUDGET_MS:.0f} ms)"
        print(f"{name}: median {plus}{median:.0f} ms, minimum {plus}{least:.0f} ms{budget}")


if __name__ == "__main__":
    main()
