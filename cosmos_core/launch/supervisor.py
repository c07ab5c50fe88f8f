"""Starts the ranks of one machine, passes requests to stop on, and turns how they ended into an exit code.

The first SIGINT or SIGTERM asks the ranks to save and stop, a second one ends them at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from cosmos_core.config.env import child_environment
from cosmos_core.launch.parent_death import set_parent_death_signal
from cosmos_core.plan.layout import RunLayout

__all__ = ["EXIT_CODES", "exit_code", "launch", "recorded"]

GRACE = 60
"""Seconds from a rank's refusal until ranks that still run are ended; most end by themselves, and send their last
figures to a tracker's server first."""
EXIT_CODES = {"done": 0, "failed": 1, "diverged": 1, "refused": 2, "stopped": 75, "interrupted": 130}


def launch(run_dir: Path, number: int, nproc: int) -> int:
    """Run `nproc` ranks of what ``launches/<number>/`` in `run_dir` records; returns the exit code of the whole."""
    layout = RunLayout(run_dir)
    for leftover in (layout.outcome, layout.stop_request):
        leftover.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nproc)]
    # Ranks write to our own outputs; torchrun would leave a folder for logs behind.
    command += ["--log-dir", os.devnull, "-m", "cosmos_core.train.worker", str(run_dir), str(number)]
    # A session of its own, so that a terminal's Ctrl-C reaches the ranks once, through us.
    process = subprocess.Popen(
        command,
        env=child_environment(OMP_WAIT_POLICY="PASSIVE"),
        start_new_session=True,
        preexec_fn=set_parent_death_signal,
    )
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        # torchrun kills ranks half a minute after a signal; a file lets them take the time a save needs.
        layout.stop_request.touch()
        received.append(number)
        if len(received) > 1:
            process.terminate()

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = _wait(process, layout)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        layout.stop_request.unlink(missing_ok=True)
    if recorded(layout) in ("refused", "diverged"):
        print(recorded(layout, "error"), file=sys.stderr)
    return exit_code(run_dir, code, interrupted=signal.SIGINT in received)


def _wait(process: subprocess.Popen[bytes], layout: RunLayout) -> int:
    """The exit code of the ranks. When one is refused alone, the others may wait for it: they get some time, then they
    are ended."""
    refused = 0
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            refused += recorded(layout) == "refused"
            if refused == GRACE:
                process.terminate()


def recorded(layout: RunLayout, what: str = "outcome") -> str:
    """How this launch ended, or its 'error', as far as a rank has recorded it; "" before."""
    try:
        return str(json.loads(layout.outcome.read_text(encoding="utf-8"))[what])
    except (OSError, ValueError, KeyError):
        return ""


def exit_code(run_dir: Path, code: int, *, interrupted: bool) -> int:
    """0 done, 75 asked to stop and saved, 130 interrupted from the keyboard, 2 the user can fix it, 1 anything else."""
    outcome = recorded(RunLayout(run_dir)) or "failed"
    if interrupted and outcome in ("failed", "stopped"):
        return EXIT_CODES["interrupted"]
    return 1 if outcome == "done" and code != 0 else EXIT_CODES.get(outcome, 1)
