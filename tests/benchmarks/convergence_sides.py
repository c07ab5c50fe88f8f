"""Both sides of a comparison of losses over many steps: ours as a run trains, and a plain loop on the same batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from attrs import evolve, frozen
from torch.optim.lr_scheduler import LambdaLR

from cosmos_core.config import Compile
from cosmos_core.config.run import SchedulerConfig
from cosmos_core.data import Item, MicroBatch
from cosmos_core.distributed import Mesh
from cosmos_core.distributed.compile import start_compilers
from cosmos_vfm.sizes import MODEL_SIZES
from cosmos_vlm.chat_processor import TokenizedConversation
from tests.benchmarks import vfm_ours, vlm_ours
from tests.benchmarks.convergence_data import Clips, Dialogs
from tests.benchmarks.fit_vfm import MINI
from tests.benchmarks.running import stepper
from tests.benchmarks.timing import clear, synchronise
from tests.benchmarks.vfm_case import with_noise
from tests.benchmarks.vfm_diffusers import Diffusers
from tests.benchmarks.vlm_case import CASES, write_backbone
from tests.benchmarks.vlm_transformers import Transformers

__all__ = ["SIDES", "Losses", "Settings", "generator_sides", "reasoner_sides"]

SIDES = {"generator": ("cosmos", "diffusers"), "reasoner": ("cosmos", "transformers")}
"""Names of both, by model."""

Losses = Iterator[float]
"""The mean loss of each step, without end."""


MINI_CLIPS = Clips(((12, 12, 20), (8, 12, 20), (8, 20, 12)), (100, 190, 280, 400), 64, 3, MINI.vocab)
SMOKE_SIZE = evolve(MODEL_SIZES["tiny_even"], layers=2)
SMOKE_CLIPS = Clips(((3, 4, 6), (4, 4, 4)), (8, 14, 20), 8, 3, SMOKE_SIZE.vocab)
BACKBONES = {False: CASES["mixed"], True: CASES["smoke mixed"]}
"""Of the reasoner, by whether it is a smoke test."""
DIALOGS = {
    False: Dialogs((60, 400), (256, 320), (8, 128, 192), 50, 6),
    True: Dialogs((8, 40), (64, 96), (4, 64, 64), 8, 5),
}
REASONER_RATE = 1e-4
"""The recipe's is for pretrained weights, and would leave random ones where they are."""


@frozen
class Settings:
    """smoke: small sizes in float32. layers: of the language model or of both towers; None: all of them.

    compile_peer: compile the layers of the other side too, which is faster and less plain.
    """

    smoke: bool = False
    layers: int | None = None
    compile_peer: bool = False


def generator_sides(mesh: Mesh, settings: Settings) -> dict[str, Callable[[], Losses]]:
    """Cosmos, then diffusers one clip after another."""
    network, clips = (SMOKE_SIZE, SMOKE_CLIPS) if settings.smoke else (MINI, MINI_CLIPS)
    network = evolve(network, layers=settings.layers or network.layers)

    def build() -> vfm_ours.Ours:
        return vfm_ours.Ours(network, mesh, recompute="selective", compiled=not settings.smoke)

    def cosmos() -> Losses:
        start_compilers(Compile(enabled=not settings.smoke), mesh.device)
        yield from _ours(build().run, (clips.items(step) for step in count()))

    def diffusers() -> Losses:
        ours = build()
        peer, schedule = Diffusers(ours, compiled=settings.compile_peer, plain=True), ours.config.scheduler
        del ours
        clear()
        yield from _plain(
            peer.optimizer, schedule, lambda step: peer.update(with_noise(clips.items(step), mesh.device))
        )

    return {"cosmos": cosmos, "diffusers": diffusers}


def reasoner_sides(mesh: Mesh, place: Path, settings: Settings) -> dict[str, Callable[[], Losses]]:
    """Cosmos, then transformers in one padded batch. place: an empty folder."""
    case, dialogs = BACKBONES[settings.smoke], DIALOGS[settings.smoke]
    if settings.layers is not None:
        case = evolve(case, text={**case.text, "num_hidden_layers": settings.layers})
    folder = write_backbone(place / "backbone", case)

    def build(*, compiled: bool) -> tuple[vlm_ours.Ours, Callable[[int], list[TokenizedConversation]]]:
        """With the packs by step."""
        ours = vlm_ours.Ours(case, folder, mesh, recompute="selective", compiled=compiled, lr=REASONER_RATE)
        return ours, partial(dialogs.members, prepared=dialogs.prepared(ours.family.processor))

    def cosmos() -> Losses:
        start_compilers(Compile(enabled=not settings.smoke), mesh.device)
        ours, members = build(compiled=not settings.smoke)
        packs = (enumerate(members(step)) for step in count())
        yield from _ours(ours.run, ([Item(index, dialog) for index, dialog in pack] for pack in packs))

    def transformers() -> Losses:
        ours, members = build(compiled=False)
        peer, schedule = Transformers(ours, plain=True), ours.config.scheduler
        if settings.compile_peer:
            peer.compile()
        del ours
        clear()
        yield from _plain(peer.optimizer, schedule, lambda step: peer.update([members(step)]))

    return {"cosmos": cosmos, "transformers": transformers}


def _ours(run: Any, items: Iterator[list[Item]]) -> Losses:
    synchronise()
    print("built; the first step compiles", flush=True)
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
