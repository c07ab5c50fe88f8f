"""The ranks of one machine: started together, and all ended as soon as one fails.

They are started without torchrun, whose agent imports torch before the ranks can begin to, which doubles the start.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cosmos_core.config.env import child_environment, rank_variables, threads_per_rank
from cosmos_core.launch.error_files import error_file_of, first_failure, record_killed_rank
from cosmos_core.launch.parent import child_command
from cosmos_core.launch.signals import stops_blocked
from cosmos_core.refs import Ref

__all__ = ["Ranks", "started_ranks"]

POLL_SECONDS = 0.05
CLOSING_SECONDS = 5
"""For a rank to end after it reported why, and after it was asked to: one that is suspended never does."""


class Ranks:
    """Running ranks, in order. error_files: folder in which they say why they failed."""

    def __init__(self, processes: Sequence[subprocess.Popen[bytes]], error_files: Path) -> None:
        self._processes, self._error_files = processes, error_files

    def wait(self) -> list[int]:
        """Their exit codes, once all have ended; when one fails, the others are ended."""
        checked = time.monotonic()
        codes = self._codes()
        while None in codes and not any(codes):
            if time.monotonic() - checked > CLOSING_SECONDS:
                checked = time.monotonic()
                if self._reported_long_ago():
                    self.kill()
            time.sleep(POLL_SECONDS)
            codes = self._codes()
        if any(codes):
            self._record_killed()
            self._end()
        return [process.wait() for process in self._processes]

    def _codes(self) -> list[int | None]:
        """Exit codes, None for those that run."""
        return [process.poll() for process in self._processes]

    def kill(self) -> None:
        """End them at once."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def _record_killed(self) -> None:
        """Write for ranks that a signal ended what they could not. Peers may have failed as early because of them."""
        for rank, code in enumerate(self._codes()):
            if code is not None and code < 0:
                record_killed_rank(self._error_files, rank, _signal_name(-code))

    def _end(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + CLOSING_SECONDS
        while None in self._codes() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        self.kill()

    def _reported_long_ago(self) -> bool:
        failure = first_failure(self._error_files)
        return failure is not None and failure.error is not None and failure.time < time.time() - CLOSING_SECONDS


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # A real-time signal.
        return f"signal {number}"


@contextmanager
def started_ranks(program: Ref, arguments: Sequence[str], count: int, error_files: Path) -> Iterator[Ranks]:
    """`count` processes that run `program`, in sessions of their own: the terminal's Ctrl-C is for this process.

    They meet in a file on this machine, so no port is needed. Raises OSError when one cannot be started.
    """
    with ExitStack() as stack:
        place = tempfile.TemporaryDirectory(prefix="cosmos-ranks-", ignore_cleanup_errors=True)
        meeting = Path(stack.enter_context(place)) / "meeting"
        processes: list[subprocess.Popen[bytes]] = []
        ranks = Ranks(processes, error_files)
        stack.callback(ranks.kill)
        shared = {"OMP_WAIT_POLICY": "PASSIVE", **threads_per_rank(count)}
        for rank in range(count):
            error_file = error_file_of(error_files, rank)
            error_file.parent.mkdir(parents=True, exist_ok=True)
            variables = rank_variables(rank, count, meeting=meeting, error_file=error_file)
            with stops_blocked():
                process = subprocess.Popen(
                    [sys.executable, *child_command(program, *arguments)],
                    env=child_environment(**shared, **variables),
                    start_new_session=True,
                )
            processes.append(process)
        yield ranks
