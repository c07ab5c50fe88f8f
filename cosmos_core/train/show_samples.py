"""`cosmos data show`: writes what the model would get of the first samples of a run."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from attrs import evolve

from cosmos_core.config.run import RunConfig
from cosmos_core.data.mixture import order_of
from cosmos_core.data.samples import Chat, Image, Video, VideoText
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video import ClipFile, probe
from cosmos_core.errors import Problem, UserError
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.seeds import stream_seed
from cosmos_core.train.build import build_family, open_dataset
from cosmos_core.train.family import ModelFamily
from cosmos_core.train.model_input import ModelInput

__all__ = ["show_samples"]

SHEET_FRAMES, SHEET_COLUMNS, SHEET_SIDE = 16, 4, 192
LEARNED, END = "\u27e6", "\u27e7"
"""Brackets around learned text."""


def show_samples(config: RunConfig, plugins: PluginManager, count: int, folder: Path) -> list[str]:
    """Write the first `count` samples of epoch 0 to `folder`, one folder each; returns a line for each.

    Every random choice is that of a run with this configuration. Raises UserError when the data cannot be opened.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another folder or remove it")
    loader = evolve(config.dataloader_train, cache=None)
    source = open_dataset(loader, plugins)
    if not len(source):
        raise UserError("the dataset is empty", [Problem(message="holds no samples", key="dataloader_train.dataset")])
    family = build_family(evolve(config, dataloader_train=loader), plugins, torch.device("cpu"))
    order, lines = order_of(source, loader.seed, shuffle=loader.shuffle), []
    for position in range(min(count, len(source))):
        place = folder / f"{position:04d}"
        random = np.random.default_rng(stream_seed(loader.seed, "sample", position))
        try:
            sample = source.get_lazy(order.place(position).index, random)
            lines.append(_write(sample, family, place))
        except UnreadableSample as error:
            place.mkdir(parents=True, exist_ok=True)
            (place / "unreadable.txt").write_text(f"{error}\n", encoding="utf-8")
            lines.append(f"{place}: skipped, {error}")
    return lines


def _write(sample: Any, family: ModelFamily, place: Path) -> str:
    value = family.prepare(sample)
    shown = family.model_input(value)
    if shown is None:
        raise UserError(f"the model family {type(family).__name__} does not say what its model gets")
    (place / "frames").mkdir(parents=True)
    for number, frame in enumerate(shown.frames):
        _picture(frame).save(place / "frames" / f"{number:04d}.png")
    _contact_sheet(shown.frames, place / "contact_sheet.png")
    about = {**_about(sample, shown), "tokens": family.num_tokens(value)}
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (place / "sample.json").write_text(text + "\n", encoding="utf-8")
    (place / "text.txt").write_text(_marked(shown), encoding="utf-8")
    return f"{place}: {about['key']}, {len(shown.frames)} frames, {about['tokens']} tokens"


def _about(sample: Any, shown: ModelInput) -> dict[str, Any]:
    """The content of sample.json; what the data does not say is null."""
    size = shown.frames[0].shape if shown.frames else (None, None, None)
    about: dict[str, Any] = {
        "key": sample.key, "file": None, "frame_indices": None, "frame_seconds": None, "fps": None,
        "width": size[2], "height": size[1],
    }  # fmt: skip
    if isinstance(sample, VideoText):
        about |= {"fps": sample.fps, "caption": sample.caption, "num_condition_frames": shown.num_condition_frames}
        clip = sample.video
        if isinstance(clip, ClipFile):
            numbers, timeline = list(range(clip.first, clip.last + 1, clip.step)), probe(clip.path)
            seconds = [round(timeline.seconds(number), 6) for number in numbers]
            about |= {"file": str(clip.path), "frame_indices": numbers, "frame_seconds": seconds}
    elif isinstance(sample, Chat):
        parts = [part for message in sample.messages for part in message.content]
        seconds = [time for part in parts if isinstance(part, Video) for time in part.seconds]
        messages = [{"role": one.role, "content": [_part(part) for part in one.content]} for one in sample.messages]
        about |= {"frame_seconds": seconds or None, "messages": messages}
    return about


def _part(part: str | Image | Video) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = "image" if isinstance(part, Image) else "video"
    return {"type": kind, "shape": list(part.pixels.shape)}


def _marked(shown: ModelInput) -> str:
    """The rendered text, with brackets around what is learned."""
    runs = [(learned, "".join(text for text, _ in run)) for learned, run in groupby(shown.text, lambda piece: piece[1])]
    return "".join(f"{LEARNED}{text}{END}" if learned else text for learned, text in runs)


def _picture(frame: torch.Tensor) -> PIL.Image.Image:
    return PIL.Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())


def _contact_sheet(frames: tuple[torch.Tensor, ...], path: Path) -> None:
    """Up to 16 frames, spread evenly."""
    if not frames:
        return
    numbers = np.unique(np.linspace(0, len(frames) - 1, min(SHEET_FRAMES, len(frames))).round().astype(int))
    rows = -(-len(numbers) // SHEET_COLUMNS)
    sheet = PIL.Image.new("RGB", (SHEET_SIDE * min(SHEET_COLUMNS, len(numbers)), SHEET_SIDE * rows))
    for cell, number in enumerate(numbers):
        picture = _picture(frames[number])
        picture.thumbnail((SHEET_SIDE, SHEET_SIDE))
        sheet.paste(picture, (cell % SHEET_COLUMNS * SHEET_SIDE, cell // SHEET_COLUMNS * SHEET_SIDE))
    sheet.save(path)
