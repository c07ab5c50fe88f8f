"""The process that writes checkpoints beside a training rank, so that training goes on meanwhile."""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from threading import Timer
from typing import Any

import torch
import torch.distributed as dist
from attrs import field, frozen
from torch.distributed.device_mesh import init_device_mesh

from cosmos_core.checkpoint.job import SaveJob
from cosmos_core.checkpoint.save import SaveFailed
from cosmos_core.checkpoint.staging import StagingMemory, unstaged
from cosmos_core.config.env import Rendezvous
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.errors import first_line
from cosmos_core.plan.plan import Degrees

__all__ = ["Reply", "Request", "Setup", "main"]

logger = logging.getLogger(__name__)

FOREVER = timedelta(days=7)
"""Of its collectives: one rank's disk may be slow. Who waits for the save watches over it."""
ASSEMBLY = 90.0
"""Seconds in which the processes of all ranks must have formed their group; one that was killed never comes."""


@frozen
class Setup:
    """The rank, and how it finds those of the other ranks. rendezvous: None without other ranks. name: of the group."""

    rank: int
    degrees: Degrees
    distributed: bool
    rendezvous: Rendezvous | None
    name: str


@frozen
class Request:
    """A save to carry out. components: as `Staging` describes them."""

    job: SaveJob
    components: dict[str, Any]


@frozen
class Reply:
    """How a save ended: complete, or with an error of the disk, or with a crash of the process that saves.

    records: what was logged until then. afterwards: while old checkpoints were removed. seconds: that it all took.
    """

    error: SaveFailed | None = None
    crash: str | None = None
    records: list[logging.LogRecord] = field(factory=list)
    afterwards: list[logging.LogRecord] = field(factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the checkpoint is not complete."""
        return self.error is not None or self.crash is not None


class _Records(logging.Handler):
    """Keeps what is logged, for the rank to log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the finished text; arguments may not be picklable."""
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.records.append(record)

    def taken(self) -> list[logging.LogRecord]:
        """All since the last call."""
        records, self.records = self.records, []
        return records


def main(connection: str, file: str, size: str) -> int:
    """The program of the process. connection, file: inherited descriptors, to the rank and of the shared memory."""
    torch.set_num_threads(1)
    log = _Records()
    logging.getLogger("cosmos_core").addHandler(log)
    logging.getLogger("cosmos_core").setLevel(logging.INFO)
    logger.setLevel(logging.DEBUG)
    rank = Connection(int(connection))
    try:
        setup = rank.recv()
        memory = StagingMemory(int(file), int(size))
        limit = Timer(ASSEMBLY, _give_up, (rank, log))
        limit.daemon = True
        limit.start()
        with _mesh(setup) as mesh:
            limit.cancel()
            while True:
                rank.send(_carried_out(rank.recv(), memory, mesh, log))
    except (EOFError, BrokenPipeError):  # The rank needs it no longer.
        return 0
    except Exception as error:  # Also a collective whose peer is gone. The rank decides what follows.
        logger.debug("%s", traceback.format_exc())
        reason = f"the process that saves failed: {type(error).__name__}: {first_line(error):.150}"
        rank.send(Reply(crash=reason, records=log.taken()))
        return 1


def _give_up(rank: Connection, log: _Records) -> None:
    """End this process, which may wait for others that are gone. torch's own limits would hold for later waits too."""
    reason = f"the processes that save did not find each other within {ASSEMBLY:g} s"
    with suppress(OSError):
        rank.send(Reply(crash=reason, records=log.taken()))
    os._exit(1)


def _carried_out(request: Request, memory: StagingMemory, mesh: Mesh, log: _Records) -> Reply:
    begun, job = time.perf_counter(), request.job
    try:
        job.carry_out(unstaged(request.components, memory, mesh.device_mesh), mesh, shown=False)
    except SaveFailed as failed:
        return Reply(failed, records=log.taken())
    records = log.taken()
    job.remove_old(mesh)
    return Reply(records=records, afterwards=log.taken(), seconds=time.perf_counter() - begun)


@contextmanager
def _mesh(setup: Setup) -> Iterator[Mesh]:
    """A mesh like that of the run, on the host, over the processes that save; their group exists while inside."""
    device, degrees = torch.device("cpu"), setup.degrees
    if not setup.distributed:
        yield Mesh(setup.rank, degrees, device)
        return
    store: dist.Store = dist.HashStore()
    if setup.rendezvous is not None:
        at = setup.rendezvous
        store = dist.TCPStore(at.host, at.port, is_master=False, wait_for_workers=False)
        store = dist.PrefixStore(setup.name, store)
    dist.init_process_group("gloo", store=store, rank=setup.rank, world_size=degrees.world, timeout=FOREVER)
    shape = (degrees.replicate, degrees.shard * degrees.context)
    yield Mesh(setup.rank, degrees, device, init_device_mesh("cpu", shape, mesh_dim_names=("replicate", "shard")))
