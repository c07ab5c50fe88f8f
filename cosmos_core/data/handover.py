"""How loader workers start, and how they hand samples to the process that trains."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing.reductions import reduce_tensor

from cosmos_core.distributed.host_memory import keep_freed_memory
from cosmos_core.launch.parent import follow_parent

__all__ = ["start_worker"]

SMALL = 32 * 2**10
"""Bytes of a tensor up to which a copy through the pipe costs less than shared memory."""
SENT_AS_ARRAYS = (torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32)


def start_worker(parent: int, worker: int) -> None:
    """Called in each new worker: it ends with its parent, reuses its memory and sends small tensors by value.

    A tensor in shared memory keeps a file open for as long as it lives, and systems often allow a process 1,024 files:
    a few packs of dialogs, of five tensors each, would take them all.
    """
    follow_parent(parent)
    keep_freed_memory()
    ForkingPickler.register(torch.Tensor, _reduced)


def _reduced(tensor: torch.Tensor) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A small tensor as an array, a large one in shared memory."""
    is_plain = tensor.is_cpu and tensor.layout is torch.strided and not tensor.requires_grad
    if is_plain and tensor.nbytes <= SMALL and tensor.dtype in SENT_AS_ARRAYS:
        return torch.from_numpy, (tensor.numpy(force=True),)
    reduced: tuple[Callable[..., Any], tuple[Any, ...]] = reduce_tensor(tensor)
    return reduced
