"""Micro-batches of the next step, drawn and collated in a thread while the model computes this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cosmos_core.data.loader import MicroBatch
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.parts import collated

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["drawn_ahead", "micro_batches_of"]

CPU = torch.device("cpu")


def micro_batches_of(trainer: Trainer) -> Generator[MicroBatch]:
    """Those of the steps to come; to be closed before the loader gets another state.

    Without loader workers they are read in this thread, since validation shares the reader.
    """
    if trainer.config.dataloader_train.num_workers:
        count = trainer.config.trainer.grad_accum_iter
        parts = trainer.config.model.activation_checkpointing.parts
        total, device = (trainer.max_iter - trainer.step) * count, trainer.mesh.device
        yield from drawn_ahead(trainer.loader, trainer.family, ahead=count, total=total, parts=parts, device=device)
    else:
        yield from trainer.loader


def drawn_ahead(
    packs: Iterable[MicroBatch],
    family: ModelFamily,
    *,
    ahead: int,
    total: int,
    parts: int = 1,
    device: torch.device = CPU,
) -> Generator[MicroBatch]:
    """The first `total` packs, collated, `ahead` of them before they are asked for; none that no step will use is read.

    parts: in which each is computed. device: where they will be used. A pack's state and errors come with it. The first
    is drawn in this thread, which must be the one that starts the loader's workers. Closing waits for the pack that is
    being made, and closes `packs`.
    """
    batches = (collated(pack, family, parts) for pack in islice(packs, total))

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
