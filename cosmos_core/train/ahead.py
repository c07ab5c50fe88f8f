"""Micro-batches of the next step, drawn and collated in a thread while the model computes this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cosmos_core.data.loader import MicroBatch
from cosmos_core.train.family import ModelFamily

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["collated", "drawn_ahead", "micro_batches_of"]

CPU = torch.device("cpu")


def micro_batches_of(trainer: Trainer) -> Generator[MicroBatch]:
    """Those of the steps to come; to be closed before the loader gets another state.

    Without loader workers they are read in this thread, since validation shares the reader.
    """
    if trainer.config.dataloader_train.num_workers:
        count = trainer.config.trainer.grad_accum_iter
        total = (trainer.max_iter - trainer.step) * count
        yield from drawn_ahead(trainer.loader, trainer.family, ahead=count, total=total, device=trainer.mesh.device)
    else:
        yield from trainer.loader


def collated(pack: MicroBatch, family: ModelFamily) -> MicroBatch:
    """The pack with its batch, without the samples, which hold the same data again."""
    if pack.batch is not None:
        return pack
    items = [replace(item, value=None) for item in pack.items]
    return replace(pack, items=items, batch=family.collate(pack.items))


def drawn_ahead(
    packs: Iterable[MicroBatch], family: ModelFamily, *, ahead: int, total: int, device: torch.device = CPU
) -> Generator[MicroBatch]:
    """The first `total` packs, collated, `ahead` of them before they are asked for; none that no step will use is read.

    device: where they will be used. A pack's state and errors come with it. The first is drawn in this thread, which
    must be the one that starts the loader's workers. Closing waits for the pack that is being made, and closes `packs`.
    """
    batches = (collated(pack, family) for pack in islice(packs, total))

    def draw() -> list[MicroBatch]:
        return list(islice(batches, 1))

    ready = draw()
    on_device = torch.cuda.set_device if device.type == "cuda" else lambda device: None
    thread = ThreadPoolExecutor(1, "packs", initializer=on_device, initargs=(device,))
    pending = deque(thread.submit(draw) for _ in range(ahead))
    try:
        while ready:
            yield ready.pop()  # No reference stays here: the step moves it to the device and drops it.
            pending.append(thread.submit(draw))
            ready += pending.popleft().result()
    finally:
        for waiting in pending:
            waiting.cancel()
        thread.submit(batches.close)  # There, since workers that the thread replaced are killed when it ends.
        thread.shutdown()
