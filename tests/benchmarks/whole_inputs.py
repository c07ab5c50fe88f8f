"""What a whole recipe needs, made in a folder, and the settings that point the recipe at it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from attrs import asdict, frozen

from tests.benchmarks.timing import clear
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

__all__ = ["GENERATOR", "REASONER", "RECIPES", "Inputs", "prepare", "read_inputs"]

GENERATOR, REASONER = "vision_sft_nano", "llava_ov_packed"
RECIPES = (GENERATOR, REASONER)
RECORD = "inputs.json"
CLIPS = {False: ClipSizes(64, 93, 320, 192, 540), True: ClipSizes(6, 9, 320, 192, 10)}
DIALOGS = {False: DialogSizes(512, 620, 500, 18, 48), True: DialogSizes(12, 96, 64, 4, 6)}
"""By whether the run is a smoke test. Packs then hold about 20 clips, or 38 dialogs."""
SMOKE = {
    GENERATOR: (
        "model.tier=tiny",
        "dataloader_train.max_sequence_length=900",
        "dataloader_train.dataset.min_window_frames=5",
    ),
    REASONER: ("model.image_min_pixels=1024", "dataloader_train.max_sequence_length=400"),
}
ON_THE_HOST = (
    "model.precision=float32",
    "model.compile.enabled=false",
    "dataloader_train.num_workers=1",
    "optimizer.fused=false",
)


@frozen
class Inputs:
    """A prepared folder. layers: of the base; None for all. smoke: whether everything is small."""

    folder: Path
    recipe: str
    layers: int | None
    smoke: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """Settings that differ from the shipped recipe: places, depth and, in a smoke test, sizes."""
        depth = () if self.layers is None else (f"model.num_layers={self.layers}",)
        small = (*SMOKE[self.recipe], *ON_THE_HOST) if self.smoke else ()
        return (*self._places, *depth, *small)

    @property
    def _places(self) -> tuple[str, ...]:
        data = f"dataloader_train.dataset.path={self.folder / 'data'}"
        if self.recipe == REASONER:
            # The recipe's own 16 dialogs would fill less than half of a pack with these.
            packs = "dataloader_train.max_samples_per_batch=null"
            return (data, f"model.backbone.model_name={self.folder / 'backbone'}", packs)
        return (
            data,
            f"checkpoint.load_path={self.folder / 'base'}",
            f"model.tokenizer.vae_path={self.folder / 'vae'}",
            f"model.text_tokenizer.path={self.folder / 'tokenizer'}",
        )


def prepare(folder: Path, recipe: str, layers: int | None, *, smoke: bool) -> Inputs:
    """Make what is missing in `folder`; says how long each part took. An existing folder must be of the same sizes."""
    inputs = Inputs(folder, recipe, layers, smoke)
    if (folder / RECORD).is_file():
        if read_inputs(folder) != inputs:
            raise SystemExit(f"{folder} was prepared for {asdict(read_inputs(folder))}; take another folder")
        return inputs
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in (_generator if recipe == GENERATOR else _reasoner)(inputs).items():
        begun = time.perf_counter()
        make()
        print(f"prepared {name} in {time.perf_counter() - begun:.1f} s", flush=True)
        clear()  # The runs need the device's memory.
    record = {"recipe": recipe, "layers": layers, "smoke": smoke}
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")
    return inputs


def read_inputs(folder: Path) -> Inputs:
    """A folder that is complete. Raises SystemExit."""
    if not (folder / RECORD).is_file():
        raise SystemExit(f"{folder} is not prepared; give --prepare {folder} first")
    return Inputs(folder, **json.loads((folder / RECORD).read_text(encoding="utf-8")))


def _generator(inputs: Inputs) -> dict[str, Callable[[], object]]:
    folder, clips = inputs.folder, CLIPS[inputs.smoke]
    # The tiny size has room for single bytes only; merged words are as long as those of the real tokenizer.
    corpus = [] if inputs.smoke else [json.dumps(caption) for caption in captions(clips)]
    tier = "tiny" if inputs.smoke else "nano"
    return {
        "tokenizer": lambda: write_tokenizer(folder / "tokenizer", corpus),
        "videos": lambda: write_clips(folder / "data", clips),
        "VAE": lambda: write_vae(folder / "vae", small=inputs.smoke),
        "base": lambda: write_generator_base(folder / "base", tier, inputs.layers),
    }


def _reasoner(inputs: Inputs) -> dict[str, Callable[[], object]]:
    folder, sizes = inputs.folder, DIALOGS[inputs.smoke]
    corpus = [] if inputs.smoke else [json.dumps(row["conversations"]) for row in dialogs(sizes)]
    return {
        "pictures": lambda: write_pictures(folder / "data", sizes),
        "backbone": lambda: write_reasoner_backbone(folder / "backbone", corpus, inputs.layers, small=inputs.smoke),
    }
