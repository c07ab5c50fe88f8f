"""Processes, sharding, context parallelism, activation checkpointing, compilation, collectives, random streams."""

from cosmos_core.distributed.activation_checkpointing import apply_activation_checkpointing
from cosmos_core.distributed.compile import compile_blocks, compile_fn
from cosmos_core.distributed.context import ContextGroup
from cosmos_core.distributed.fsdp import assign_full, dtype, local, shard
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.runtime import local_mesh, started
from cosmos_core.distributed.seeds import Streams
from cosmos_core.distributed.transfer import transferred

__all__ = [
    "ContextGroup",
    "Mesh",
    "Streams",
    "apply_activation_checkpointing",
    "assign_full",
    "compile_blocks",
    "compile_fn",
    "dtype",
    "local",
    "local_mesh",
    "shard",
    "started",
    "transferred",
]
