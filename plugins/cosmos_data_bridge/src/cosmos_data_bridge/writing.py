"""Writes synthetic clips as a dataset: complete or not at all, the same bytes for the same options."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from attrs import asdict, frozen
from numpy.typing import NDArray
from PIL import Image

from cosmos_core.console import progress
from cosmos_core.data.prepared import write_prepared
from cosmos_core.data.video import write_mp4
from cosmos_core.seeds import stream_seed
from cosmos_data_bridge.captions import serialise
from cosmos_data_bridge.synthetic import Attributes, attribute_sets, dense_caption, render, structured_caption

__all__ = ["SyntheticOptions", "split_attributes", "write_synthetic"]

FPS = 5
HELD_OUT = 40
HELD_OUT_A_COLOR = 7
V2V_FRAMES = 5
PACKAGE = "cosmos-data-bridge"
SPLIT_SEED = 0


@frozen(kw_only=True)
class SyntheticOptions:
    """Numbers and size of clips. seed: of everything drawn, except which combinations are held out."""

    train: int
    val: int
    seed: int
    size: int
    frames: int


@frozen
class _Clip:
    uuid: str
    attributes: Attributes
    pixels: NDArray[np.uint8]


def split_attributes() -> tuple[list[Attributes], list[Attributes]]:
    """248 combinations for training and 40 held out, at most 7 of a colour; the same for every dataset."""
    shuffled = attribute_sets()
    np.random.default_rng(stream_seed(SPLIT_SEED, "held out")).shuffle(shuffled)
    held_out: list[Attributes] = []
    for attributes in shuffled:
        of_color = sum(earlier.color == attributes.color for earlier in held_out)
        if len(held_out) < HELD_OUT and of_color < HELD_OUT_A_COLOR:
            held_out.append(attributes)
    return [attributes for attributes in shuffled if attributes not in held_out], held_out


def write_synthetic(root: Path, options: SyntheticOptions) -> bool:
    """Write the dataset; False if it is there already. Raises UserError when the folder holds something else."""

    def write(folder: Path) -> None:
        train, held_out = split_attributes()
        with progress("writing", options.train + options.val, "clips") as writing:
            for split, sets, count in (("train", train, options.train), ("val", held_out, options.val)):
                with _Split(folder / split, inference=split == "val") as written:
                    for clip in _clips(split, sets, count, options):
                        written.add(clip)
                        writing.advance()

    return write_prepared(root, asdict(options), write, package=PACKAGE)


def _clips(split: str, sets: list[Attributes], count: int, options: SyntheticOptions) -> Iterator[_Clip]:
    for index in range(count):
        random = np.random.default_rng(stream_seed(options.seed, split, index))
        attributes = sets[index % len(sets)]
        number = index if split == "train" else options.train + index
        pixels = render(attributes, random, size=options.size, frames=options.frames)
        yield _Clip(f"episode_{number:06d}_clip000", attributes, pixels)


class _Split:
    """The folder of a split; its index is written after all clips."""

    def __init__(self, folder: Path, *, inference: bool) -> None:
        self.folder, self.inference = folder, inference
        self._records: list[dict[str, Any]] = []

    def __enter__(self) -> _Split:
        (self.folder / "videos").mkdir(parents=True)
        return self

    def __exit__(self, failed: Any, *rest: Any) -> None:
        if failed is None:
            lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in self._records]
            (self.folder / "video_dataset_file.jsonl").write_text("".join(lines), encoding="utf-8")

    def add(self, clip: _Clip) -> None:
        """Write a clip: its video, its record and, for validation, the inputs of inference."""
        write_mp4(self.folder / "videos" / f"{clip.uuid}.mp4", clip.pixels, FPS)
        self._records.append(_record(clip))
        if self.inference:
            self._add_inference(clip)

    def _add_inference(self, clip: _Clip) -> None:
        caption = structured_caption(clip.attributes)
        _write_json(self.folder / "captions" / clip.uuid / "caption.json", caption)
        image = self.folder / "images" / f"{clip.uuid}.png"
        image.parent.mkdir(exist_ok=True)
        Image.fromarray(clip.pixels[0]).save(image)
        short = self.folder / "videos_5frames" / f"{clip.uuid}.mp4"
        short.parent.mkdir(exist_ok=True)
        write_mp4(short, clip.pixels[:V2V_FRAMES], FPS)
        frames, height, width, _ = clip.pixels.shape
        prompt = {
            "name": clip.uuid,
            "prompt": serialise(caption),
            "resolution": str(min(width, height)),
            "aspect_ratio": "1,1",
            "num_frames": frames,
            "fps": FPS,
        }
        for kind, source in (("", None), ("_i2v", image), ("_v2v", short)):
            extra = {} if source is None else {"vision_path": f"../{source.relative_to(self.folder)}"}
            _write_json(self.folder / f"inference_prompt{kind}" / f"{clip.uuid}.json", {**prompt, **extra})


def _record(clip: _Clip) -> dict[str, Any]:
    frames, height, width, _ = clip.pixels.shape
    window = {
        "start_frame": 0,
        "end_frame": frames - 1,
        "temporal_interval": 1,
        "caption_json": structured_caption(clip.attributes),
        "caption": dense_caption(clip.attributes),
    }
    return {
        "uuid": clip.uuid,
        "vision_path": f"videos/{clip.uuid}.mp4",
        "duration": frames / FPS,
        "width": width,
        "height": height,
        "nb_frames": frames,
        "framerate": float(FPS),
        "t2w_windows": [window],
    }


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
