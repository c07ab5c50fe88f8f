"""Processes, sharding, context parallelism, activation checkpointing, compilation, collectives, random numbers."""

from cosmos_core.distributed.activation_checkpointing import apply_activation_checkpointing, config_of_layer
from cosmos_core.distributed.compile import compile_blocks, compile_fn
from cosmos_core.distributed.context import ContextGroup
from cosmos_core.distributed.device_memory import device_memory
from cosmos_core.distributed.fsdp import dtype, load_full_tensor, shard, to_local
from cosmos_core.distributed.host_copy import HostCopy
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.rng import CounterRng
from cosmos_core.distributed.runtime import local_mesh, process_group
from cosmos_core.distributed.to_device import page_locked, to_device

__all__ = [
    "ContextGroup",
    "CounterRng",
    "HostCopy",
    "Mesh",
    "apply_activation_checkpointing",
    "compile_blocks",
    "compile_fn",
    "config_of_layer",
    "device_memory",
    "dtype",
    "load_full_tensor",
    "local_mesh",
    "page_locked",
    "process_group",
    "shard",
    "to_device",
    "to_local",
]
