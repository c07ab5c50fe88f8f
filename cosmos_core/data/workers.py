"""Reads ahead in worker processes; workers that hang are replaced."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import TypeVar

import torch
from torch.distributed.checkpoint import CheckpointException

from cosmos_core.data.handover import start_worker
from cosmos_core.errors import Problem, RankLost, UserError
from cosmos_core.launch.signals import stops_blocked

__all__ = ["is_lost_worker", "lost_workers_explained", "read_in_workers"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

REPLACED = 2
"""Times in a row that silent workers are replaced before the run ends."""
SILENT = "DataLoader timed out"
"""How torch's error begins; errors of datasets may be about time, too."""
LONGEST = 24 * 24 * 3600.0
"""Seconds; the system counts waits in milliseconds of 31 bits."""
TRACEBACK_SECONDS = 0.5
"""Given to silent workers to write their tracebacks."""
_STARTING = Lock()
"""Held while workers start: validation may start its own while a thread replaces those of the training data."""


def read_in_workers(
    dataset: torch.utils.data.Dataset[T],
    positions: Iterable[int],
    *,
    num_workers: int,
    prefetch_factor: int,
    timeout: float,
    name: Callable[[int], str],
) -> Iterator[T]:
    """The items of `dataset` at `positions`, in their order. name: of the item at a position, for messages.

    Workers are forked from a process that has threads, and they read files that may never answer, so they can hang.
    When none has given anything for `timeout` seconds (0: no limit), their tracebacks go to stderr, and new workers
    start at the item that is missing. Raises UserError when these are silent too, `REPLACED` times in a row.
    """
    read_ahead: deque[int] = deque()
    upcoming, silent = iter(positions), 0
    while True:
        sampler = _noted(chain(list(read_ahead), upcoming), read_ahead)
        read_ahead.clear()
        loader = torch.utils.data.DataLoader(
            dataset,
            sampler=sampler,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            worker_init_fn=partial(start_worker, os.getpid()),
            # A fork server, Python's default from 3.14 on, would be their parent, and they follow this process.
            multiprocessing_context="fork" if sys.platform == "linux" else None,
            timeout=min(timeout, LONGEST),
        )
        with _STARTING, stops_blocked(), _writing_tracebacks():
            others = set(active_children())
            items = iter(loader)  # Workers are started here.
            workers = set(active_children()) - others
        try:
            for item in items:
                read_ahead.popleft()
                silent = 0
                yield item
            return
        except RuntimeError as error:
            if not str(error).startswith(SILENT):
                raise
        silent += 1
        title = f"the {num_workers} loader workers gave nothing for {timeout:g} seconds"
        logger.warning("%s; the next sample is %s. Where they hang:", title, name(read_ahead[0]))
        _write_tracebacks(workers)
        for worker in workers:
            worker.terminate()  # Those that still run Python end at once.
        del items
        _kill(workers)
        if silent > REPLACED:
            raise UserError(f"{title}, {silent} times in a row", [_still_silent(name(read_ahead[0]))])


def is_lost_worker(error: BaseException) -> bool:
    """Whether it is torch's error for a worker that was killed or crashed, which says nothing of what is done here."""
    return str(error).startswith("DataLoader worker (pid")


@contextmanager
def lost_workers_explained() -> Iterator[None]:
    """Raises RankLost in place of torch's error for a worker that was killed or crashed.

    torch raises it wherever the main thread is when the signal comes, such as in the forward pass, or in a save, which
    wraps it.
    """
    try:
        yield
    except (RuntimeError, CheckpointException) as error:
        causes = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
        lost = next(filter(is_lost_worker, causes), None)
        if lost is None:
            raise
        message = str(lost).partition("\n")[0].strip().rstrip(".")
        hint = (
            "the kernel kills processes when memory runs out: try a smaller dataloader_train.num_workers or "
            "prefetch_factor; num_workers=0 shows what crashes; the same command resumes"
        )
        title = "a loader worker was lost; the last complete checkpoint stays the latest"
        raise RankLost(title, [Problem(message=message, hint=hint)]) from error


def _still_silent(sample: str) -> Problem:
    message = f"waits for {sample}; stderr has the tracebacks of the workers"
    hint = "look at that sample and its disk; raise worker_timeout of the dataloader where so long is right"
    return Problem(message=message, hint=hint)


def _noted(positions: Iterator[int], read_ahead: deque[int]) -> Iterator[int]:
    for position in positions:
        read_ahead.append(position)
        yield position


@contextmanager
def _writing_tracebacks() -> Iterator[None]:
    """Processes forked inside write their tracebacks at SIGQUIT, whatever they hang in: it needs no lock."""
    faulthandler.register(signal.SIGQUIT, sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGQUIT)


def _write_tracebacks(workers: set[BaseProcess]) -> None:
    for worker in workers:
        if worker.pid is not None and worker.is_alive():
            os.kill(worker.pid, signal.SIGQUIT)
    time.sleep(TRACEBACK_SECONDS)


def _kill(workers: set[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()
