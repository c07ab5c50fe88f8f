"""A process of a group: collectives on known values."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
from attrs import frozen

from cosmos_core.doctor.check import Result
from cosmos_core.errors import first_line
from cosmos_core.launch.parent import set_parent_death_signal

__all__ = ["Group", "serve_peer"]

ELEMENTS = {"cuda": 1 << 24, "cpu": 1 << 20}
"""float32 in the tensor that is reduced."""
REPEATS = 5
CYCLE = 1009
"""Elements repeat after so many; a prime, so that parts which change places differ."""
GB = 1e9


@frozen
class Group:
    """rendezvous: file that all members name."""

    rendezvous: Path
    rank: int
    size: int


def serve_peer(connection: Connection, device: str, index: int) -> None:
    """Answer each Group with a Result; the first answer says that the device is open."""
    set_parent_death_signal(os.getppid())
    own = torch.device("cuda", index) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(own)
    torch.zeros(1, device=own)
    connection.send(Result(status="ok", message="ready"))
    while True:
        group: Group = connection.recv()
        try:
            result = _in_group(group, own)
        except Exception as error:
            result = Result(status="broken", message=f"{type(error).__name__}: {first_line(error)}")
        connection.send(result)


def _in_group(group: Group, device: torch.device) -> Result:
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method=f"file://{group.rendezvous}",
        rank=group.rank,
        world_size=group.size,
        timeout=timedelta(minutes=5),
        device_id=device if device.type == "cuda" else None,
    )
    count = ELEMENTS[device.type] // group.size * group.size
    base = torch.arange(count, device=device).remainder(CYCLE).float()
    own, part = base * (group.rank + 1), count // group.size
    total = base * sum(range(1, group.size + 1))
    own_part = slice(group.rank * part, (group.rank + 1) * part)

    reduced = own.clone()
    dist.all_reduce(reduced)
    scattered = own.new_empty(part)
    dist.reduce_scatter_tensor(scattered, own.clone())
    gathered = own.new_empty(count)
    dist.all_gather_into_tensor(gathered, total[own_part].contiguous())
    right = {
        "all-reduce": torch.equal(reduced, total),
        "reduce-scatter": torch.equal(scattered, total[own_part]),
        "all-gather": torch.equal(gathered, total),
    }
    speed = _bandwidth(lambda: dist.all_reduce(reduced), reduced, group.size)
    dist.destroy_process_group()
    wrong = [name for name, equal in right.items() if not equal]
    if wrong:
        return Result(status="broken", message=f"wrong values after {', '.join(wrong)}")
    return Result(
        status="ok",
        message=f"{', '.join(right)} right; {speed:.1f} GB/s" if group.size > 1 else f"{', '.join(right)} right",
        data={"gigabytes_per_second": speed},
    )


def _bandwidth(all_reduce: Callable[[], object], tensor: torch.Tensor, size: int) -> float:
    """Bytes that each link carries in a second, as nccl-tests count them (bus bandwidth)."""
    tensor.zero_()
    all_reduce()
    _synchronize(tensor)
    begin = time.perf_counter()
    for _ in range(REPEATS):
        all_reduce()
    _synchronize(tensor)
    seconds = (time.perf_counter() - begin) / REPEATS
    return 2 * (size - 1) / size * tensor.numel() * tensor.element_size() / seconds / GB


def _synchronize(tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
