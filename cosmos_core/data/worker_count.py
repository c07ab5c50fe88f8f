"""How many processes read for a rank, where the configuration leaves it open."""

from __future__ import annotations

from math import ceil
from typing import Literal

from cosmos_core.config.cores import cores
from cosmos_core.config.env import launched_rank

__all__ = ["MAX_WORKERS", "workers_for", "workers_that_keep_up"]

MAX_WORKERS = 16
"""Of a rank. More rarely help: then the training process is the limit, which takes what they read."""
HEADROOM = 1.5
"""Samples differ, and a core that decodes beside others is slower than a core alone."""


def workers_for(configured: int | Literal["auto"], needed: int | None = None) -> int:
    """Workers of this rank. needed: more are not, as so many keep up, or there are so few samples.

    "auto" takes them as far as this rank's share of the cores goes, less one core for the process itself; at least one.
    """
    if configured != "auto":
        return configured
    launched = launched_rank()
    share = cores() // (launched.local_world if launched is not None else 1)
    return max(1, min(share - 1, MAX_WORKERS, MAX_WORKERS if needed is None else needed))


def workers_that_keep_up(core_seconds: float, step_seconds: float) -> int:
    """To prepare a micro-batch while one trains. core_seconds: to prepare it. step_seconds: it trains, at the least."""
    return max(1, min(MAX_WORKERS, ceil(HEADROOM * core_seconds / step_seconds)))
