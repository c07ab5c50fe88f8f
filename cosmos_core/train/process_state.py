"""Leaves a process as it was found: a run may be started from a notebook, more than once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["preserved_process_state"]


@contextmanager
def preserved_process_state() -> Iterator[None]:
    """Torch's default dtype, number of threads and random state return afterwards, and the filters of warnings."""
    dtype, threads, random = torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
