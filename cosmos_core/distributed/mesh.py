"""The processes of a run and the mesh they form."""

from __future__ import annotations

import torch
from attrs import frozen
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from cosmos_core.plan.plan import Degrees

__all__ = ["Mesh"]


@frozen
class Mesh:
    """One process's view. device_mesh: dimensions (replicate, shard); None when there is no process group.

    Context-parallel peers are consecutive ranks that share one batch; the shard dimension spans them. context_group is
    their group, None without context parallelism.
    """

    rank: int
    degrees: Degrees
    device: torch.device
    device_mesh: DeviceMesh | None = None
    context_group: ProcessGroup | None = None

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.degrees.world

    @property
    def distributed(self) -> bool:
        """Whether there is a process group."""
        return self.device_mesh is not None

    @property
    def data_rank(self) -> int:
        """Index of this process's batch among the distinct batches."""
        return self.rank // self.degrees.context

    @property
    def data_world(self) -> int:
        """Number of distinct batches of a micro-step."""
        return self.degrees.data

    @property
    def fsdp_mesh(self) -> DeviceMesh:
        """Mesh to shard over: 1-D without replicas, which avoids a reduction over one rank."""
        assert self.device_mesh is not None
        return self.device_mesh["shard"] if self.degrees.replicate == 1 else self.device_mesh
