"""Several tensors read at once: one thread reads and copies about 1 GB a second, disks and the page cache give more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["groups", "read_each"]

T = TypeVar("T")

MAX_THREADS = 4
"""Each holds one whole tensor on the host."""


def groups(sizes: Mapping[T, int], limit: int) -> Iterator[list[T]]:
    """Consecutive tensors of at most `limit` bytes together; a larger one is a group of its own."""
    part: list[T] = []
    used = 0
    for tensor, size in sizes.items():
        if part and used + size > limit:
            yield part
            part, used = [], 0
        part.append(tensor)
        used += size
    yield part


def read_each(read: Callable[[T], None], items: Iterable[T]) -> None:
    """Call `read` for every item, in up to four threads of this process's share of the cores; no gradients are kept.

    The first error is raised, and what was not begun by then is left out.
    """
    threads = min(MAX_THREADS, torch.get_num_threads())
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def read_one(item: T) -> None:
        if device is not None:
            torch.cuda.set_device(device)  # Threads begin with the first one.
        with torch.no_grad():
            read(item)

    pool = ThreadPoolExecutor(threads, "reading")
    try:
        for _ in pool.map(read_one, items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
