"""Functions on several processes that form a group; all are forked from one that has the imports done."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

__all__ = ["on_ranks"]

IMPORTED = (
    "torch.distributed.checkpoint",
    "transformers",
    "cosmos_core.launch.train",
    "cosmos_core.train.build",
    "cosmos_core.train.run",
    "cosmos_data_bridge.dataset",
    "cosmos_vfm.family",
    "cosmos_vfm.callbacks.every_n_draw_sample",
    "cosmos_vlm.data.chat",
    "cosmos_vlm.family",
    "PIL.PngImagePlugin",
    "tomlkit",
    "tests.tiny_reasoner",
)


def on_ranks(function: Callable[..., None], world: int, folder: Path, *arguments: Any) -> None:
    """Call ``function(folder, *arguments)`` on `world` gloo processes; fails when one of them does.

    folder: empty, for what they exchange.
    """
    multiprocessing.set_forkserver_preload(list(IMPORTED))
    given = (world, function, folder, *arguments)
    mp.start_processes(_joined, given, nprocs=world, start_method="forkserver")


def _joined(rank: int, world: int, function: Callable[..., None], folder: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    function(folder, *arguments)
    dist.barrier()
    dist.destroy_process_group()
