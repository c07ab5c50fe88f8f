"""Micro-batches of the next step, drawn and collated in a thread while the model computes this one."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

import torch

from cosmos_core.data.loader import MicroBatch
from cosmos_core.train.parts import collated

if TYPE_CHECKING:
    from cosmos_core.train.trainer import Trainer

__all__ = ["drawn_ahead", "micro_batches_of"]

CPU = torch.device("cpu")


def micro_batches_of(trainer: Trainer) -> Generator[MicroBatch]:
    """Those of the steps to come, collated; to be closed before the loader gets another state.

    Without loader workers they are read in this thread, since validation shares the reader.
    """
    config, family = trainer.config, trainer.family
    parts, count = config.model.activation_checkpointing.parts, config.trainer.grad_accum_iter
    left = (trainer.max_iter - trainer.step) * count
    packs = (collated(pack, family, parts) for pack in islice(trainer.loader, left))
    return drawn_ahead(packs, count, trainer.mesh.device) if config.dataloader_train.num_workers else packs


def drawn_ahead(packs: Generator[MicroBatch], ahead: int, device: torch.device = CPU) -> Generator[MicroBatch]:
    """The packs, `ahead` of them made before they are asked for. device: where they will be used.

    A pack's errors come with it. The first is made in this thread, which must be the one that starts the loader's
    workers. Closing waits for the pack that is being made, and closes `packs`.
    """

    def draw() -> list[MicroBatch]:
        return list(islice(packs, 1))

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
        thread.submit(packs.close)  # There, since workers that the thread replaced are killed when it ends.
        thread.shutdown()
