"""Leaves a process as it was found: a run may be started from a notebook, more than once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["preserved_process_state"]


@contextmanager
def preserved_process_state() -> Iterator[None]:
    """Log to stderr while inside, unless the process has log handlers of its own.

    Handlers and level of the root logger, torch's default dtype, number of threads and random state return afterwards.
    """
    dtype, threads, random = torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state()
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        yield
    finally:
        for handler in [added for added in root.handlers if added not in handlers]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
