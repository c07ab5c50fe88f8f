"""Starts the ranks of one machine, passes requests to stop on, and tells how they ended."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from cosmos_core.config.env import child_environment, threads_per_rank
from cosmos_core.console.terminal import leave_drawing
from cosmos_core.errors import RankLost
from cosmos_core.launch.error_files import first_failure
from cosmos_core.launch.outcome import error_outcome, read_outcome, write_outcome
from cosmos_core.launch.parent import child_command
from cosmos_core.launch.signals import stops_blocked
from cosmos_core.launch.stop import StopRequests
from cosmos_core.plan.paths import RunPaths
from cosmos_core.refs import Ref

__all__ = ["launch"]

AGENT = Ref("cosmos_core.launch.agent:main")
"""In a process of its own, which alone needs torchrun."""
CLOSING_SECONDS = 5
"""After a rank's report, for all ranks to end. torchrun would give half a minute to one that is suspended."""


def launch(run_dir: Path, number: int, nproc: int, stop: StopRequests) -> str:
    """Run `nproc` ranks of what ``launches/<number>/`` in `run_dir` records: 'done', 'stopped' or 'interrupted'.

    stop: a request reaches the ranks as a file. A later one, which raises KeyboardInterrupt, ends them at once. Raises
    the UserError or RunFailed that a rank reported, and RankLost when a rank failed in any other way; its traceback is
    on stderr then.
    """
    paths = RunPaths(run_dir)
    paths.outcome.unlink(missing_ok=True)
    _clear(paths)
    stop.pass_on(paths.stop_request)
    # A session of its own: the terminal's Ctrl-C is for this process.
    with stops_blocked():
        process = subprocess.Popen(
            [sys.executable, *child_command(AGENT, str(run_dir), str(number), str(nproc))],
            env=child_environment(OMP_WAIT_POLICY="PASSIVE", **threads_per_rank(nproc)),
            start_new_session=True,
        )
    try:
        code = _ended_process(process, paths)
        if code != 0:
            leave_drawing()
        return _ended(paths, code)
    except KeyboardInterrupt as interrupt:
        process.kill()  # The ranks end with it.
        process.wait()
        leave_drawing()
        write_outcome(paths, error_outcome(interrupt))
        raise
    finally:
        _clear(paths)


def _clear(paths: RunPaths) -> None:
    """Remove what ranks tell each other and this process while they run."""
    for folder in (paths.error_files, paths.beats):
        shutil.rmtree(folder, ignore_errors=True)


def _ended_process(process: subprocess.Popen[bytes], paths: RunPaths) -> int:
    """Its exit code, once it and so all ranks have ended."""
    while True:
        try:
            return process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            failure = first_failure(paths.error_files)
            reported = failure is not None and failure.error is not None
            if failure is not None and reported and failure.time < time.time() - CLOSING_SECONDS:
                process.kill()


def _ended(paths: RunPaths, code: int) -> str:
    """How the launch ended; ``outcome.json`` says it too, where rank 0 could not."""
    failure, outcome = first_failure(paths.error_files), read_outcome(paths)
    if failure is not None and failure.error is not None:
        write_outcome(paths, error_outcome(failure.error))
        raise failure.error
    if code == 0 and outcome in ("done", "stopped", "interrupted"):
        return outcome
    if outcome != "failed":
        reason = "the ranks ended without saying why" if failure is None else f"rank {failure.rank}: {failure.message}"
        write_outcome(paths, {"outcome": "failed", "error": reason})
    if failure is None:
        raise RankLost("the ranks ended before the run did, and did not say why; see above")
    raise RankLost(f"rank {failure.rank} failed with {failure.message}; its traceback is above")
