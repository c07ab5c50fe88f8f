"""Adds what a run encodes to its cache, in a thread of its own, so that no step waits for a disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from queue import Full, Queue
from threading import Thread
from weakref import finalize

import torch
from attrs import frozen

from cosmos_vfm.cache.entry import Cached
from cosmos_vfm.cache.folder import LatentCache, described

__all__ = ["LatentWriter"]

logger = logging.getLogger(__name__)

MOST_WAITING = 64
"""Groups of clips that wait for the disk. What comes when it is slower is left out, and added when it comes again."""
AT_THE_END = 10.0
"""Seconds that the end of a run waits for the last ones."""


@frozen(eq=False)
class _Encoded:
    """latents: on the host once `copied` is complete; at once without it."""

    identities: tuple[str, ...]
    latents: torch.Tensor
    copied: torch.cuda.Event | None


class LatentWriter:
    """Never raises: a disk that takes no more is told of once, and the run goes on without writing."""

    def __init__(self, cache: LatentCache) -> None:
        self._queue: Queue[_Encoded | None] = Queue(MOST_WAITING)
        thread = Thread(target=_write_all, args=(cache, self._queue), name="latent cache", daemon=True)
        thread.start()
        self.close = finalize(self, _finish, self._queue, thread)
        """Write what waits, and end the thread. Called at the end of the process by itself."""

    def write(self, identities: Sequence[str], latents: torch.Tensor) -> None:
        """identities: of the clips; "" for one not to keep. latents: [b, 48, T, H, W]; not changed afterwards."""
        if not any(identities) or self._queue.full():
            return
        on_host, copied = latents, None
        if latents.is_cuda:
            on_host = torch.empty_like(latents, device="cpu", pin_memory=True)
            on_host.copy_(latents, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self._queue.put(_Encoded(tuple(identities), on_host, copied))


def _write_all(cache: LatentCache, queue: Queue[_Encoded | None]) -> None:
    goes_on = True
    while (encoded := queue.get()) is not None:
        if not goes_on:
            continue
        if encoded.copied is not None:
            encoded.copied.synchronize()
        try:
            for identity, latents in zip(encoded.identities, encoded.latents, strict=True):
                if identity:
                    cache.write(identity, Cached(latents, "", None))
        except OSError as error:
            goes_on = False
            logger.warning("latents are no longer kept, training goes on: %s", described(error, cache.folder))


def _finish(queue: Queue[_Encoded | None], thread: Thread) -> None:
    try:
        queue.put(None, timeout=AT_THE_END)
    except Full:
        return
    thread.join(AT_THE_END)
