"""A name under which the ranks of one start meet in a store that may hold what ranks wrote that are dead.

torchrun keeps its store when it starts ranks again, and counts the starts of each machine by itself.
"""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import torch.distributed as dist

__all__ = ["meeting"]

LEADER = "leader"
POLL = 0.1


def meeting(store: dist.Store, rank: int, world: int, timeout: timedelta) -> str:
    """The same name on all ranks that live, and new. Raises DistStoreError when some do not come in time."""
    token = uuid4().hex
    if rank == 0:
        store.set(LEADER, token)
        answers = [f"{token}/{other}" for other in range(1, world)]
        store.wait(answers, timeout)
        store.set(f"{token}/all", " ".join(store.get(answer).decode() for answer in answers))
        return token
    end = time.monotonic() + timeout.total_seconds()
    store.wait([LEADER], timeout)
    while time.monotonic() < end:
        leader = store.get(LEADER).decode()
        store.set(f"{leader}/{rank}", token)
        # What a dead leader heard are the tokens of other ranks.
        if store.check([f"{leader}/all"]) and token in store.get(f"{leader}/all").decode():
            return leader
        time.sleep(POLL)  # A wait would log each time that it ends.
    raise dist.DistStoreError(f"rank 0 and the others did not meet within {timeout.total_seconds():g} s")
