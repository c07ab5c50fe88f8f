"""torchrun's agent for the ranks of one machine: starts them, and ends all as soon as one fails.

It is a process of its own, and imports no more than torchrun needs, since every rank waits for it.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.launch.error_files import first_failure, record_killed_rank
from cosmos_core.launch.parent import child_command
from cosmos_core.plan.paths import RunPaths
from cosmos_core.refs import Ref

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

__all__ = ["main"]

WORKER = Ref("cosmos_core.train.worker:main")
CLOSING_SECONDS = 30
"""torchrun ends the other ranks by SIGTERM, and by SIGKILL this much later."""


def main(run_dir: str, launch: str, nproc: str) -> int:
    """The program of the launcher's child; returns the exit code.

    torchrun reports a failed rank at length. That report is kept for a crash; the text of a reported error is told by
    the launcher, which reads the error files.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # torchrun logs each failed and ended rank; its report says the same again. Ranks have loggers of their own.
    logging.disable(logging.ERROR)
    folder = RunPaths(Path(run_dir)).error_files
    options = ["--standalone", "--nproc-per-node", nproc, "--log-dir", str(folder)]
    # The agent passes no signal on; `follow_parent` keeps them from it and from the ranks.
    try:
        run(parse_args([*options, *child_command(WORKER, run_dir, launch)]))
    except ChildFailedError as error:
        for rank, failed in _killed_from_outside(error.failures).items():
            record_killed_rank(folder, rank, failed.local_rank, failed.signal_name())
        failure = first_failure(folder)
        if failure is None or failure.error is None:
            print(error, file=sys.stderr)
        return 1
    return 0


def _killed_from_outside(failures: dict[int, ProcessFailure]) -> dict[int, ProcessFailure]:
    """Ranks, by number, that a signal ended before torchrun killed those that it could not end.

    Such a rank is the cause: its peers may have failed as early, but only because it left.
    """
    killing = min(failed.timestamp for failed in failures.values()) + CLOSING_SECONDS
    return {rank: failed for rank, failed in failures.items() if failed.exitcode < 0 and failed.timestamp < killing}
