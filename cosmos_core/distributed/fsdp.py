"""FSDP2: each block is a unit, the rest is the root unit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cosmos_core.config.model import Parallelism
from cosmos_core.distributed.mesh import Mesh

__all__ = ["dtype", "full_tensor", "load_full_tensor", "reshard", "set_requires_all_reduce", "shard", "to_local"]


def dtype(name: str) -> torch.dtype:
    """The torch dtype of a name in a configuration, or in the record of a base."""
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    return {str(known).removeprefix("torch."): known for known in dtypes}[name]


def shard(model: nn.Module, blocks: Iterable[nn.Module], mesh: Mesh, parallelism: Parallelism, precision: str) -> None:
    """Shard `blocks`, then the rest of `model`, in place; nothing happens without a process group.

    Parameters stay in their own dtype and are gathered in `precision`; gradients are reduced in fsdp_reduce_dtype,
    by default the master dtype. Inputs are not cast: timesteps and rotary positions must stay float32.
    """
    if not mesh.distributed:
        return
    policy = MixedPrecisionPolicy(
        param_dtype=dtype(precision),
        reduce_dtype=dtype(parallelism.fsdp_reduce_dtype or parallelism.fsdp_master_dtype),
        cast_forward_inputs=False,
    )
    # A block may return a view, such as one sequence of a pack. Networks here change no output in place.
    warnings.filterwarnings("ignore", message=".*returned a view tensor", category=UserWarning)
    for block in blocks:
        fully_shard(block, mesh=mesh.fsdp_mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh.fsdp_mesh, mp_policy=policy)


def set_requires_all_reduce(model: nn.Module, required: bool) -> None:
    """Whether the next backward pass also reduces across replicas; only a step's last one needs to."""
    if isinstance(model, FSDPModule):
        model.set_requires_all_reduce(required)


def reshard(model: nn.Module) -> None:
    """Free gathered parameters, which a forward pass without backward leaves in the root unit.

    Call it after every change of sharded weights, or the next forward pass uses the old ones.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def to_local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a tensor, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def full_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor on every rank. Collective."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def load_full_tensor(parameter: torch.Tensor, full: torch.Tensor) -> None:
    """Copy `full`, which is the same on every rank, into a possibly sharded parameter, without communication."""
    if isinstance(parameter, DTensor):
        on_device = full.to(parameter.device_mesh.device_type)
        full = distribute_tensor(on_device, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local()
    to_local(parameter).copy_(full)
