"""Processes that generate together, one a device."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from attrs import frozen

from cosmos_core.config.cores import cores
from cosmos_core.distributed import ContextGroup
from cosmos_core.errors import UserError

__all__ = ["Rank", "spawn_ranks"]


@frozen
class Rank:
    """One process. context: the group that divides each clip, None where ranks divide the clips."""

    number: int
    count: int
    device: torch.device
    context: ContextGroup | None = None

    @classmethod
    def alone(cls) -> Rank:
        """The only process."""
        return cls(0, 1, _device(0))


def _device(number: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", number % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def spawn_ranks(work: Callable[[Any, Rank], None], job: Any, count: int, *, group: bool) -> None:
    """Run `work(job, rank)` in `count` processes. group: they form a context group.

    Raises the first UserError of a process.
    """
    from torch.multiprocessing import ProcessExitedException, get_context, spawn

    # A manager's queue holds any number of problems; a pipe would be full, and its process would never end.
    with (
        tempfile.TemporaryDirectory(prefix="cosmos-generate-") as folder,
        get_context("spawn").Manager() as manager,
    ):
        errors = manager.Queue()
        meeting = Path(folder) / "ranks" if group else None
        try:
            spawn(_run, args=(work, job, count, meeting, errors), nprocs=count)
        except ProcessExitedException:
            if errors.empty():
                raise
        if not errors.empty():
            raise UserError(*errors.get())


def _run(
    number: int, work: Callable[[Any, Rank], None], job: Any, count: int, meeting: Path | None, errors: Any
) -> None:
    """Sends title and problems of a UserError. In a group it then exits, since the others wait for this rank."""
    torch.set_num_threads(max(1, cores() // count))
    device, context = _device(number), None
    if meeting is not None:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=number, world_size=count)
        assert dist.group.WORLD is not None
        context = ContextGroup(dist.group.WORLD, number, count)
    try:
        work(job, Rank(number, count, device, context))
    except UserError as error:
        errors.put((error.title, error.problems))
        if meeting is not None:
            sys.exit(1)
    if meeting is not None:
        dist.destroy_process_group()
