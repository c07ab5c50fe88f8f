"""Starts the ranks of one machine, passes requests to stop on, and tells how they ended.

The first SIGINT or SIGTERM asks the ranks to save and stop, a second one ends them at once.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from cosmos_core.config.env import child_environment, threads_per_rank
from cosmos_core.console.terminal import leave_drawing, show_beside
from cosmos_core.errors import RunFailed
from cosmos_core.launch.error_files import first_failure
from cosmos_core.launch.outcome import error_outcome, read_outcome, write_outcome
from cosmos_core.launch.signals import handling_signals, stopping
from cosmos_core.plan.paths import RunPaths

__all__ = ["launch"]


def launch(run_dir: Path, number: int, nproc: int) -> str:
    """Run `nproc` ranks of what ``launches/<number>/`` in `run_dir` records: 'done', 'stopped' or 'interrupted'.

    Raises the UserError or RunFailed that a rank reported, and RunFailed when a rank failed in any other way; its
    traceback is on stderr then.
    """
    paths = RunPaths(run_dir)
    for leftover in (paths.outcome, paths.stop_request):
        leftover.unlink(missing_ok=True)
    shutil.rmtree(paths.error_files, ignore_errors=True)
    # A session of its own, so that a terminal's Ctrl-C reaches the ranks once, through this process.
    process = subprocess.Popen(
        [sys.executable, "-m", "cosmos_core.train.agent", str(run_dir), str(number), str(nproc)],
        env=child_environment(OMP_WAIT_POLICY="PASSIVE", **threads_per_rank(nproc)),
        start_new_session=True,
    )
    received: list[int] = []

    def forward(number: int, _: FrameType | None) -> None:
        # torchrun kills ranks half a minute after a signal; a file lets them take the time a save needs.
        paths.stop_request.touch()
        received.append(number)
        if len(received) > 1:
            process.terminate()
        else:
            show_beside(stopping(number))

    try:
        with handling_signals(forward):
            code = process.wait()
        if code != 0:
            leave_drawing()
        return _ended(paths, code, interrupted=signal.SIGINT in received)
    finally:
        paths.stop_request.unlink(missing_ok=True)
        shutil.rmtree(paths.error_files, ignore_errors=True)


def _ended(paths: RunPaths, code: int, *, interrupted: bool) -> str:
    """How the launch ended; ``outcome.json`` says it too, where rank 0 could not."""
    failure, outcome = first_failure(paths.error_files), read_outcome(paths)
    if failure is not None and failure.error is not None:
        write_outcome(paths, error_outcome(failure.error))
        raise failure.error
    if code == 0 and outcome in ("done", "stopped", "interrupted"):
        return "interrupted" if interrupted and outcome == "stopped" else outcome
    if outcome != "failed" and (outcome != "stopped" or not interrupted):
        reason = "the ranks ended without saying why" if failure is None else f"rank {failure.rank}: {failure.message}"
        write_outcome(paths, {"outcome": "failed", "error": reason})
    if interrupted:
        return "interrupted"
    if failure is None:
        raise RunFailed("the ranks ended before the run did, and did not say why; see above")
    raise RunFailed(f"rank {failure.rank} failed with {failure.message}; its traceback is above")
