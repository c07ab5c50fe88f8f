"""Starts the ranks of one machine, passes requests to stop on, and tells how they ended."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cosmos_core.console.terminal import leave_drawing
from cosmos_core.errors import RankLost
from cosmos_core.launch.error_files import first_failure
from cosmos_core.launch.outcome import error_outcome, read_outcome, write_outcome
from cosmos_core.launch.ranks import started_ranks
from cosmos_core.launch.stop import StopRequests
from cosmos_core.plan.paths import RunPaths
from cosmos_core.refs import Ref

__all__ = ["launch"]

WORKER = Ref("cosmos_core.train.worker:main")
"""A reference, since this room never imports torch by itself."""


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
    try:
        with started_ranks(WORKER, (str(run_dir), str(number)), nproc, paths.error_files) as ranks:
            codes = ranks.wait()
        if any(codes):
            leave_drawing()
        return _ended(paths, codes)
    except KeyboardInterrupt as interrupt:
        leave_drawing()
        write_outcome(paths, error_outcome(interrupt))
        raise
    finally:
        _clear(paths)


def _clear(paths: RunPaths) -> None:
    """Remove what ranks tell each other and this process while they run."""
    for folder in (paths.error_files, paths.beats):
        shutil.rmtree(folder, ignore_errors=True)


def _ended(paths: RunPaths, codes: Sequence[int]) -> str:
    """How the launch ended; ``outcome.json`` says it too, where rank 0 could not. codes: of the ranks."""
    failure, outcome = first_failure(paths.error_files), read_outcome(paths)
    if failure is not None and failure.error is not None:
        write_outcome(paths, error_outcome(failure.error))
        raise failure.error
    if not any(codes) and outcome in ("done", "stopped", "interrupted"):
        return outcome
    if outcome != "failed":
        reason = _without_a_word(codes) if failure is None else f"rank {failure.rank}: {failure.message}"
        write_outcome(paths, {"outcome": "failed", "error": reason})
    if failure is None:
        raise RankLost(f"{_without_a_word(codes)}; see above")
    raise RankLost(f"rank {failure.rank} failed with {failure.message}; its traceback is above")


def _without_a_word(codes: Sequence[int]) -> str:
    failed = [f"rank {rank} with exit code {code}" for rank, code in enumerate(codes) if code]
    return f"the ranks ended before the run did, and did not say why: {', '.join(failed) or 'all with exit code 0'}"
