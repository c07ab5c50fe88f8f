"""Processes that share the work of a command, one a device."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from attrs import frozen

from cosmos_core.config.cores import cores
from cosmos_core.distributed import ContextGroup
from cosmos_core.errors import UserError

__all__ = ["Rank", "spawn_ranks"]

Job = TypeVar("Job")
Result = TypeVar("Result")


@frozen
class Rank:
    """One process. context: the group that divides each clip, None where ranks divide the clips."""

    number: int
    count: int
    device: torch.device
    context: ContextGroup | None = None

    @classmethod
    def of(cls, number: int = 0, count: int = 1) -> Rank:
        """This process, as one of `count` that do not talk to each other."""
        return cls(number, count, _device(number))


def _device(number: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def spawn_ranks(work: Callable[[Job, Rank], Result], job: Job, count: int, *, group: bool = False) -> list[Result]:
    """What `work(job, rank)` returns in each of `count` processes, in any order. group: they form a context group.

    Raises the first UserError of a process.
    """
    from torch.multiprocessing import ProcessExitedException, get_context, spawn

    lost: ProcessExitedException | None = None
    # A manager's queue holds any number of problems; a pipe would be full, and its process would never end.
    with (
        tempfile.TemporaryDirectory(prefix="cosmos-ranks-") as folder,
        get_context("spawn").Manager() as manager,
    ):
        queue = manager.Queue()
        meeting = Path(folder) / "ranks" if group else None
        try:
            spawn(_run, args=(work, job, count, meeting, queue), nprocs=count)
        except ProcessExitedException as error:
            lost = error
        results = [queue.get() for _ in range(queue.qsize())]
    errors = [result for result in results if isinstance(result, UserError)]
    if errors:
        raise errors[0]
    if lost is not None:
        raise lost
    return results


def _run(number: int, work: Callable[[Any, Rank], Any], job: Any, count: int, meeting: Path | None, queue: Any) -> None:
    """Sends the result, or the UserError. In a group it then exits, since the others wait for this rank."""
    torch.set_num_threads(max(1, cores() // count))
    device, context = _device(number), None
    if meeting is not None:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=number, world_size=count)
        assert dist.group.WORLD is not None
        context = ContextGroup(dist.group.WORLD, number, count)
    try:
        queue.put(work(job, Rank(number, count, device, context)))
    except UserError as error:
        queue.put(error)
        if meeting is not None:
            sys.exit(1)
    if meeting is not None:
        dist.destroy_process_group()
