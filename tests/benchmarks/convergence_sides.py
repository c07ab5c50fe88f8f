"""Both sides of a comparison of losses over many steps: ours as a run trains, and a plain loop on the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from torch.nn.functional import interpolate
from torch.optim.lr_scheduler import LambdaLR

from cosmos_core.config.run import SchedulerConfig
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import Mesh
from cosmos_vfm.batch import Prepared
from cosmos_vfm.packing import SequenceSpec
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vlm.chat_processor import ChatProcessor, TokenizedConversation
from tests.benchmarks import vfm_ours, vlm_ours
from tests.benchmarks.fit_vfm import MINI
from tests.benchmarks.running import stepper
from tests.benchmarks.timing import clear
from tests.benchmarks.vfm_case import with_noise
from tests.benchmarks.vfm_diffusers import Diffusers
from tests.benchmarks.vlm_case import CASES, write_backbone
from tests.benchmarks.vlm_transformers import Transformers, micro_batches

__all__ = ["SIDES", "Losses", "generator_sides", "reasoner_sides"]

SIDES = {"generator": ("cosmos", "diffusers"), "reasoner": ("cosmos", "transformers")}
"""Names of both, by model."""

Losses = Iterator[float]
"""The mean loss of each step, without end."""


@frozen
class Clips:
    """`distinct` clips with captions of their own, drawn again and again with new noise, `pack` of them in a step.

    sizes: of latents, (frames, height, width), in turn. text: fewest and most tokens of a caption.
    """

    sizes: tuple[tuple[int, int, int], ...]
    text: tuple[int, int]
    distinct: int
    pack: int
    vocab: int

    def items(self, step: int) -> list[Item]:
        """What the loader gives at `step`."""
        first = step * self.pack
        return [
            Item(position, self._prepared(position % self.distinct)) for position in range(first, first + self.pack)
        ]

    def _prepared(self, index: int) -> Prepared:
        """Latents that are smooth but for a third of noise, and up to two clean frames."""
        random, shape = torch.Generator().manual_seed(index), self.sizes[index % len(self.sizes)]
        length = int(torch.randint(self.text[0], self.text[1] + 1, (1,), generator=random))
        ids = torch.randint(0, self.vocab, (length,), generator=random)
        coarse = interpolate(torch.randn(1, 48, 2, 3, 4, generator=random), shape, mode="trilinear")[0]
        latents = 1.5 * coarse + torch.randn(48, *shape, generator=random) / 3
        return Prepared(f"clip {index}", latents, SequenceSpec(tuple(ids.tolist()), shape, 24.0, index % 3))


MINI_CLIPS = Clips(((24, 12, 20), (12, 12, 20), (8, 20, 12)), (100, 400), 64, 6, MINI.vocab)
SMOKE_SIZE = evolve(MODEL_SIZES["tiny_even"], layers=2)
SMOKE_CLIPS = Clips(((3, 4, 6), (4, 4, 4)), (8, 20), 8, 3, SMOKE_SIZE.vocab)
PACKS = {False: evolve(CASES["mixed"], budget=4096), True: CASES["smoke mixed"]}
"""Of the reasoner, by whether it is a smoke test."""
REASONER_RATE = 1e-4
"""The recipe's is for pretrained weights, and would leave random ones where they are."""
GROUPS = 2
"""Padded micro-batches of a step in the plain loop."""


def generator_sides(mesh: Mesh, *, smoke: bool) -> dict[str, Callable[[], Losses]]:
    """Cosmos, then diffusers one clip after another."""
    network, clips = (SMOKE_SIZE, SMOKE_CLIPS) if smoke else (MINI, MINI_CLIPS)

    def build() -> vfm_ours.Ours:
        return vfm_ours.Ours(network, mesh, recompute="selective", compiled=not smoke)

    def cosmos() -> Losses:
        yield from _ours(build().run, (clips.items(step) for step in count()))

    def diffusers() -> Losses:
        ours = build()
        peer, schedule = Diffusers(ours, compiled=False, plain=True), ours.config.scheduler
        del ours
        clear()
        yield from _plain(
            peer.optimizer, schedule, lambda step: peer.update(with_noise(clips.items(step), mesh.device))
        )

    return {"cosmos": cosmos, "diffusers": diffusers}


def reasoner_sides(mesh: Mesh, place: Path, *, smoke: bool) -> dict[str, Callable[[], Losses]]:
    """Cosmos, then transformers in padded micro-batches. place: an empty folder."""
    case = PACKS[smoke]
    folder = write_backbone(place / "backbone", case)

    packs: dict[int, list[TokenizedConversation]] = {}

    def pack(step: int, processor: ChatProcessor) -> list[TokenizedConversation]:
        """Made once, as its pictures take long."""
        if step not in packs:
            packs[step] = case.dialogs(step, processor)
        return packs[step]

    def cosmos() -> Losses:
        ours = _reasoner(mesh, folder, smoke=smoke, compiled=not smoke)
        members = (pack(step, ours.family.processor) for step in count())
        yield from _ours(ours.run, ([Item(index, one) for index, one in enumerate(dialogs)] for dialogs in members))

    def transformers() -> Losses:
        ours = _reasoner(mesh, folder, smoke=smoke, compiled=False)
        peer, schedule, processor = Transformers(ours, plain=True), ours.config.scheduler, ours.family.processor
        del ours
        clear()
        yield from _plain(
            peer.optimizer, schedule, lambda step: peer.update(micro_batches(pack(step, processor), GROUPS))
        )

    return {"cosmos": cosmos, "transformers": transformers}


def _reasoner(mesh: Mesh, folder: Path, *, smoke: bool, compiled: bool) -> vlm_ours.Ours:
    return vlm_ours.Ours(PACKS[smoke], folder, mesh, recompute="selective", compiled=compiled, lr=REASONER_RATE)


def _ours(run: Any, items: Iterator[list[Item]]) -> Losses:
    step = stepper(run, (MicroBatch(members, {}) for members in items), exact=True)
    while True:
        yield step()["loss"]


def _plain(optimizer: torch.optim.Optimizer, schedule: SchedulerConfig, update: Callable[[int], float]) -> Losses:
    """With the recipe's learning-rate schedule, written out: a linear warm-up, then a cosine."""
    (length,), (warm,) = schedule.cycle_lengths, schedule.warm_up_steps
    (start,), (low,) = schedule.f_start, schedule.f_min

    def factor(step: int) -> float:
        if step < warm:
            return start + (1 - start) * step / warm
        return low + (1 - low) * (1 + math.cos(math.pi * (step - warm) / (length - warm))) / 2

    scheduler = LambdaLR(optimizer, factor)
    for step in count():
        yield update(step)
        scheduler.step()
