"""Adds what a run encodes to its cache, in a thread of its own, so that no step waits for a disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from queue import Full, Queue
from threading import Thread
from weakref import finalize

import torch
from attrs import frozen

from cosmos_core.distributed import HostCopy
from cosmos_vfm.cache.entry import Cached
from cosmos_vfm.cache.folder import LatentCache, described

__all__ = ["LatentWriter"]

logger = logging.getLogger(__name__)

MAX_WAITING = 64
"""Groups of clips that may wait for the disk. Further ones are not written, and are encoded again later."""
CLOSING_SECONDS = 10.0
"""How long the end of a run waits for the last ones."""


@frozen(eq=False)
class _Encoded:
    identities: tuple[str, ...]
    latents: HostCopy


class LatentWriter:
    """Never raises: when the disk takes no more, it warns once and stops writing, and the run goes on."""

    def __init__(self, cache: LatentCache) -> None:
        self._queue: Queue[_Encoded | None] = Queue(MAX_WAITING)
        thread = Thread(target=_write_all, args=(cache, self._queue), name="latent cache", daemon=True)
        thread.start()
        self.close = finalize(self, _finish, self._queue, thread)
        """Write what waits, and end the thread; at the latest the end of the process calls it."""

    def write(self, identities: Sequence[str], latents: torch.Tensor) -> None:
        """identities: of the clips; "" for one not to keep. latents: [b, 48, T, H, W]; not changed afterwards."""
        if any(identities) and not self._queue.full():
            self._queue.put(_Encoded(tuple(identities), HostCopy(latents)))


def _write_all(cache: LatentCache, queue: Queue[_Encoded | None]) -> None:
    disk_failed = False
    while (encoded := queue.get()) is not None:
        if disk_failed:
            continue
        try:
            for identity, latents in zip(encoded.identities, encoded.latents.wait(), strict=True):
                if identity:
                    cache.write(identity, Cached(latents, "", None))
        except OSError as error:
            disk_failed = True
            logger.warning("latents are no longer kept, training goes on: %s", described(error, cache.folder))


def _finish(queue: Queue[_Encoded | None], thread: Thread) -> None:
    try:
        queue.put(None, timeout=CLOSING_SECONDS)
    except Full:
        return
    thread.join(CLOSING_SECONDS)
