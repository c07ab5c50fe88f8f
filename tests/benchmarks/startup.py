"""Start-up of the listing commands against a bare interpreter: ``python -m tests.benchmarks.startup``.

Installs a recipe pack and a small plugin beside our four, so that six plugins are there, and prints medians.
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

__all__ = ["BUDGET_MS", "measure", "overheads"]

BUDGET_MS = 150.0
COMMANDS = {
    "cosmos --help": ("--help",),
    "cosmos plugins list": ("plugins", "list"),
    "cosmos recipes list": ("recipes", "list"),
}


def measure(command: list[str], env: dict[str, str], repeats: int) -> float:
    """Median wall-clock milliseconds."""
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, check=True)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def overheads(repeats: int = 15) -> tuple[float, dict[str, float]]:
    """Milliseconds of a bare interpreter, and of each command beyond it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        guests = [write_plugin(root, f"acme_{name}", HEADER) for name in ("fifth", "sixth")]
        env = {**os.environ, **install(root / "site", *guests)}
        bare = measure([sys.executable, "-c", "pass"], env, repeats)
        return bare, {
            name: measure([sys.executable, "-m", "cosmos_core", *arguments], env, repeats) - bare
            for name, arguments in COMMANDS.items()
        }


def main() -> None:
    """Print medians and ratios."""
    bare, extra = overheads()
    print(f"bare interpreter: {bare:.0f} ms")
    for name, milliseconds in extra.items():
        print(f"{name}: +{milliseconds:.0f} ms, {(bare + milliseconds) / bare:.1f} x bare (budget +{BUDGET_MS:.0f} ms)")


if __name__ == "__main__":
    main()
