"""Collectives over all processes; without a process group they return their input."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

from cosmos_core.distributed.mesh import Mesh

__all__ = ["any_rank", "barrier", "gather_objects", "sum_over_data"]


def sum_over_data(value: torch.Tensor, mesh: Mesh) -> torch.Tensor:
    """Sum over the distinct batches of all ranks; context-parallel peers hold the same value and count once."""
    if not mesh.distributed:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / mesh.degrees.context


def any_rank(flag: bool, mesh: Mesh) -> bool:
    """Whether `flag` holds on at least one rank; the same answer on all."""
    if not mesh.distributed:
        return flag
    # On the host, so that it does not wait for pending work of the device.
    votes = torch.tensor(int(flag))
    dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return bool(votes.item())


def barrier(mesh: Mesh) -> None:
    """Wait for all ranks."""
    if mesh.distributed:
        dist.barrier()


def gather_objects(value: Any, mesh: Mesh) -> list[Any]:
    """Every rank's `value`, in rank order, on every rank."""
    if not mesh.distributed:
        return [value]
    values: list[Any] = [None] * mesh.world
    dist.all_gather_object(values, value)
    return values
