"""Processes, sharding, recomputation, compilation, collectives, random streams, attention kernels."""

from cosmos_core.distributed.compile import compile_blocks, compiled
from cosmos_core.distributed.fsdp import assign_full, dtype, local, shard
from cosmos_core.distributed.kernels import attention, attention_kernels, fastest_attention
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.distributed.ragged import Ragged, has_ragged_attention, ragged_attention
from cosmos_core.distributed.recompute import kept_operators, recomputed, wrap_blocks
from cosmos_core.distributed.runtime import local_mesh, started
from cosmos_core.distributed.seeds import Streams
from cosmos_core.distributed.transfer import transferred

__all__ = [
    "Mesh",
    "Ragged",
    "Streams",
    "assign_full",
    "attention",
    "attention_kernels",
    "compile_blocks",
    "compiled",
    "dtype",
    "fastest_attention",
    "has_ragged_attention",
    "kept_operators",
    "local",
    "local_mesh",
    "ragged_attention",
    "recomputed",
    "shard",
    "started",
    "transferred",
    "wrap_blocks",
]
