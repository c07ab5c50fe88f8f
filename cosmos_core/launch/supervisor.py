"""Starts the ranks of one machine, passes requests to stop on, and tells how they ended."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from cosmos_core.config.env import child_environment, threads_per_rank
from cosmos_core.console.terminal import leave_drawing
from cosmos_core.errors import RankLost
from cosmos_core.launch.child import child_command
from cosmos_core.launch.error_files import first_failure
from cosmos_core.launch.outcome import error_outcome, read_outcome, write_outcome
from cosmos_core.launch.signals import stops_blocked
from cosmos_core.launch.stop import StopRequests
from cosmos_core.plan.paths import RunPaths
from cosmos_core.refs import Ref

__all__ = ["CLOSING_SECONDS", "launch"]

AGENT = Ref("cosmos_core.train.agent:main")
"""A reference, since this room never imports torch by itself."""
CLOSING_SECONDS = 5
"""When one rank failed, torchrun ends the others by SIGTERM, and by SIGKILL this much later."""


def launch(run_dir: Path, number: int, nproc: int, stop: StopRequests) -> str:
    """Run `nproc` ranks of what ``launches/<number>/`` in `run_dir` records: 'done', 'stopped' or 'interrupted'.

    stop: a request reaches the ranks as a file. A later one, which raises KeyboardInterrupt, ends them at once. Raises
    the UserError or RunFailed that a rank reported, and RankLost when a rank failed in any other way; its traceback is
    on stderr then.
    """
    paths = RunPaths(run_dir)
    paths.outcome.unlink(missing_ok=True)
    shutil.rmtree(paths.error_files, ignore_errors=True)
    stop.pass_on(paths.stop_request)
    # A session of its own: the terminal's Ctrl-C is for this process.
    with stops_blocked():
        process = subprocess.Popen(
            [sys.executable, *child_command(AGENT, str(run_dir), str(number), str(nproc))],
            env=child_environment(
                OMP_WAIT_POLICY="PASSIVE",
                TORCH_ELASTIC_SHUTDOWN_TIMEOUT=str(CLOSING_SECONDS),
                **threads_per_rank(nproc),
            ),
            start_new_session=True,
        )
    try:
        code = process.wait()
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
        shutil.rmtree(paths.error_files, ignore_errors=True)


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
