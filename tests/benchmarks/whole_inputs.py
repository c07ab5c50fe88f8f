"""What a whole recipe needs, made in a folder, and the settings that point the recipe at it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from attrs import frozen

from tests.benchmarks.whole_data import (
    ClipSizes,
    DialogSizes,
    captions,
    dialogs,
    write_clips,
    write_pictures,
)
from tests.benchmarks.whole_weights import write_generator_base, write_reasoner_backbone, write_vae
from tests.tiny_reasoner import write_tokenizer

__all__ = ["GENERATORS", "REASONERS", "Inputs", "prepare", "write_latents"]

GENERATORS = {"vision_sft_nano": "nano", "vision_sft_edge": "edge", "vision_sft_super": "super"}
"""Model size of each."""
REASONERS = ("llava_ov", "llava_ov_packed")
SMALL_TIERS = {"nano": "tiny", "edge": "tiny_edge", "super": "tiny_even"}
CLIPS = {False: ClipSizes(64, 93, 320, 192, 540), True: ClipSizes(6, 5, 320, 192, 10)}
DIALOGS = {False: DialogSizes(512, 620, 500, 18, 48), True: DialogSizes(12, 96, 64, 4, 6)}
"""By whether the run is a smoke test. Packs then hold about 20 clips, or 38 dialogs."""
SMALL_CLIPS = ("dataloader_train.max_sequence_length=700", "dataloader_train.dataset.min_window_frames=5")
SMALL_DIALOGS = ("model.image_min_pixels=1024", "dataloader_train.max_sequence_length=400")
ON_THE_HOST = (
    "model.precision=float32",
    "model.compile.enabled=false",
    "dataloader_train.num_workers=1",
    "optimizer.fused=false",
)

Make = Callable[[Path], None]


@frozen
class Inputs:
    """What a recipe reads, each part in a folder of its own that other recipes share.

    layers: of the base; None for all. smoke: whether everything is small.
    """

    folder: Path
    recipe: str
    layers: int | None
    smoke: bool

    @property
    def generates(self) -> bool:
        """Whether it reads clips, else pictures with dialogs."""
        return self.recipe in GENERATORS

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings that differ from the shipped recipe: places, depth and, in a smoke test, sizes."""
        depth = () if self.layers is None else (f"model.num_layers={self.layers}",)
        return (*self._places, *depth, *(self._small if self.smoke else ()))

    @property
    def latents(self) -> Path:
        """Of the clips."""
        return self._part("latents")

    @property
    def parts(self) -> dict[Path, Make]:
        """Folders, and what makes each; fastest first."""
        small = self.smoke
        if not self.generates:
            # The small size has room for single bytes only; merged words are as long as those of the real tokenizer.
            corpus = [] if small else [json.dumps(row["conversations"]) for row in dialogs(DIALOGS[False])]
            return {
                self._part("pictures"): partial(write_pictures, sizes=DIALOGS[small]),
                self._weights: partial(write_reasoner_backbone, corpus=corpus, num_layers=self.layers, small=small),
            }
        return {
            self._part("tokenizer"): partial(_tokenizer, small=small),
            self._part("clips"): partial(write_clips, sizes=CLIPS[small]),
            self._part("vae"): partial(write_vae, small=small),
            self._weights: partial(write_generator_base, tier=self._tier, num_layers=self.layers),
        }

    @property
    def _tier(self) -> str:
        tier = GENERATORS[self.recipe]
        return SMALL_TIERS[tier] if self.smoke else tier

    @property
    def _weights(self) -> Path:
        """Those of all layers where they are there, which a network of fewer takes too."""
        name = f"base_{self._tier}" if self.generates else "backbone"
        whole = self._part(name)
        return whole if self.layers is None or whole.is_dir() else self._part(f"{name}_{self.layers}")

    @property
    def _places(self) -> tuple[str, ...]:
        if not self.generates:
            # llava_ov_packed's own 16 dialogs would fill less than half of a pack with these.
            packs = () if self.recipe == "llava_ov" else ("dataloader_train.max_samples_per_batch=null",)
            data = f"dataloader_train.dataset.path={self._part('pictures')}"
            return (data, f"model.backbone.model_name={self._weights}", *packs)
        return (
            f"dataloader_train.dataset.path={self._part('clips')}",
            f"checkpoint.load_path={self._weights}",
            f"model.tokenizer.vae_path={self._part('vae')}",
            f"model.text_tokenizer.path={self._part('tokenizer')}",
        )

    @property
    def _small(self) -> tuple[str, ...]:
        sizes = (f"model.tier={self._tier}", *SMALL_CLIPS) if self.generates else SMALL_DIALOGS
        return (*sizes, *ON_THE_HOST)

    def _part(self, name: str) -> Path:
        return self.folder / (f"small_{name}" if self.smoke else name)


def prepare(inputs: Inputs, gpus: int = 0) -> None:
    """Make the parts that are missing, side by side; says how long each took. gpus: to encode latents with; 0: none."""
    inputs.folder.mkdir(parents=True, exist_ok=True)
    missing = {place: make for place, make in inputs.parts.items() if not place.is_dir()}
    if inputs.smoke:
        for place, make in missing.items():
            _make(place, make)
        if gpus:
            write_latents(inputs, gpus)
        return
    with ProcessPoolExecutor(max(1, len(missing)), mp_context=get_context("spawn")) as pool:
        made = {place: pool.submit(_make, place, make) for place, make in missing.items()}
        for place, done in made.items():
            if place != list(inputs.parts)[-1]:
                done.result()
        if gpus:
            write_latents(inputs, gpus)  # While the weights are still written.
        for done in made.values():
            done.result()


def write_latents(inputs: Inputs, gpus: int) -> None:
    """By the real command, if they are not there."""
    if not inputs.latents.is_dir():
        command = ("data", "cache", inputs.recipe, *inputs.overrides, "--nproc", str(gpus))
        _make(inputs.latents, partial(_cosmos, command))


def _cosmos(command: tuple[str, ...], folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "cosmos_core", *command, "-o", str(folder)], check=True)


def _make(place: Path, make: Make) -> None:
    """A part that is there is complete."""
    begun, partly = time.perf_counter(), place.with_name(f".{place.name}.partial")
    shutil.rmtree(partly, ignore_errors=True)
    make(partly)
    partly.replace(place)
    print(f"prepared {place.name} in {time.perf_counter() - begun:.1f} s", flush=True)


def _tokenizer(folder: Path, *, small: bool) -> None:
    write_tokenizer(folder, [] if small else [json.dumps(caption) for caption in captions(CLIPS[False])])
