"""torchrun's agent for the ranks of one machine: starts them, and ends all as soon as one fails."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from cosmos_core.launch.error_files import first_failure
from cosmos_core.launch.hard_exit import hard_exit
from cosmos_core.launch.parent_death import set_parent_death_signal
from cosmos_core.plan.paths import RunPaths

__all__ = ["main"]


def main(run_dir: str, launch: str, nproc: str) -> int:
    """``python -m cosmos_core.train.agent RUN_DIR LAUNCH NPROC``; the exit code.

    torchrun reports a failed rank at length. That report is kept for a crash; the text of a reported error is told by
    the launcher, which reads the error files.
    """
    set_parent_death_signal()
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # torchrun logs each failed and ended rank; its report says the same again. Ranks have loggers of their own.
    logging.disable(logging.ERROR)
    folder = RunPaths(Path(run_dir)).error_files
    options = ["--standalone", "--nproc-per-node", nproc, "--log-dir", str(folder)]
    try:
        run(parse_args([*options, "-m", "cosmos_core.train.worker", run_dir, launch]))
    except ChildFailedError as error:
        failure = first_failure(folder)
        if failure is None or failure.error is None:
            print(error, file=sys.stderr)
        return 1
    except SignalException:
        return 1  # The launcher asked to end the ranks at once.
    return 0


if __name__ == "__main__":
    hard_exit(main(*sys.argv[1:]))
