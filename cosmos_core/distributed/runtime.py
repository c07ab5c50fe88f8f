"""Starts and ends the process group, and chooses this process's device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from cosmos_core.config.cores import cores
from cosmos_core.config.env import LaunchedRank, launched_rank, rendezvous
from cosmos_core.distributed.host_memory import keep_freed_memory
from cosmos_core.distributed.meeting import meeting
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.plan.plan import Degrees

__all__ = ["local_mesh", "mesh_of_group", "process_group"]

TIMEOUT = timedelta(minutes=30)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        keep_freed_memory()
        return torch.device("cpu")
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def local_mesh(device: torch.device | None = None) -> Mesh:
    """The mesh of a single process without a process group."""
    return Mesh(0, Degrees(replicate=1, shard=1, context=1), device or _device(0))


@contextmanager
def process_group(degrees: Degrees, *, mixed_precision: bool, timeout: timedelta = TIMEOUT) -> Iterator[Mesh]:
    """The mesh of a run; the process group exists while inside.

    A process that torchrun did not start gets a group only when `mixed_precision` requires FSDP.
    timeout: of a collective.
    """
    launched = launched_rank()
    if launched is None and not mixed_precision:
        yield local_mesh()
        return
    device = _device(launched.local_rank if launched else 0)
    _share_cores(launched)
    _init_group(launched, device, timeout)
    try:
        yield mesh_of_group(degrees, device)
    except BaseException:
        # NCCL's teardown waits for the peers, and they may be in a collective that this rank never joins. A rank that
        # torchrun started exits instead, and torchrun ends the others.
        if launched is None:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def mesh_of_group(degrees: Degrees, device: torch.device) -> Mesh:
    """The mesh over all processes of the group that there is. Collective."""
    shape = (degrees.replicate, degrees.shard * degrees.context)
    device_mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicate", "shard"))
    return Mesh(dist.get_rank(), degrees, device, device_mesh, _context_group(degrees, device))


def _context_group(degrees: Degrees, device: torch.device) -> dist.ProcessGroup | None:
    if degrees.context == 1:
        return None
    shape = (degrees.world // degrees.context, degrees.context)
    return init_device_mesh(device.type, shape, mesh_dim_names=("data", "context"))["context"].get_group()


def _share_cores(launched: LaunchedRank | None) -> None:
    """Divide the machine's cores among its ranks."""
    if launched is not None and launched.local_world > 1:
        torch.set_num_threads(max(1, cores() // launched.local_world))


def _init_group(launched: LaunchedRank | None, device: torch.device, timeout: timedelta) -> None:
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if launched is not None:
        rendezvous()  # Before torch says it less clearly.
        # A new name: ranks that torchrun starts again would find the addresses of the dead ones.
        store, rank, world = next(dist.rendezvous("env://", timeout=timeout))
        store = dist.PrefixStore(meeting(store, rank, world, timeout), store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
        return
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
