"""`cosmos data show`: writes what the model would get of samples of a run."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from cosmos_core.config.run import RunConfig
from cosmos_core.data.preparation import ReadSample
from cosmos_core.data.samples import Chat, Image, Message, Video, VideoText
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video import ClipFile, probe
from cosmos_core.errors import Problem, UserError, writing
from cosmos_core.names import as_number, counted, did_you_mean
from cosmos_core.plugin.manager import PluginManager
from cosmos_core.train.contact_sheet import contact_sheet, picture_of
from cosmos_core.train.model_input import ModelInput
from cosmos_core.train.sample_reader import SampleReader, open_readers

__all__ = ["show_samples"]

SHEET_FRAMES, SHEET_COLUMNS, SHEET_SIDE = 16, 4, 192
LEARNED, END = "\u27e6", "\u27e7"
"""Brackets around learned text."""
DIGITS = 6
"""Of seconds, after the point."""


def show_samples(config: RunConfig, plugins: PluginManager, sample: str, count: int, folder: Path) -> list[str]:
    """Write `count` training samples of the first epoch from `sample` on; returns a line for each.

    sample: a place in the order of training, from 0, or a key of the dataset. folder: new; each of several samples gets
    a folder in it. Every random choice is that of a run with this configuration. Raises UserError when the data cannot
    be opened or has no such sample, and where a run would end.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already; choose another folder or remove it")
    reader = open_readers(config, plugins)[0]
    first = _position(reader, sample)
    lines = []
    for position in range(first, min(first + count, len(reader))):
        place = folder if count == 1 else folder / f"{position:04d}"
        try:
            lines.append(_write(reader.read(position), reader, reader.member(position), place))
        except UnreadableSample as error:
            with writing(place):
                place.mkdir(parents=True, exist_ok=True)
                (place / "unreadable.txt").write_text(f"{error}\n", encoding="utf-8")
            lines.append(f"{place}: skipped, {error}")
    return lines


def _position(reader: SampleReader, sample: str) -> int:
    """Raises UserError when there is no such sample. A number is a place, also where it is a key."""
    place = as_number(sample)
    if place is not None and place < len(reader):
        return place
    keys = []
    for position in range(len(reader)):
        keys.append(reader.source.key(reader.index(position)))
        if keys[-1] == sample:
            return position
    # The log calls a clip by its window too: `clip1_w0`.
    parents = [position for position, key in enumerate(keys) if sample.startswith(f"{key}_")]
    if (named := next((position for position in parents if _name(reader, position) == sample), None)) is not None:
        return named
    near = f"did you mean '{keys[parents[0]]}'?" if parents else did_you_mean(sample, keys)
    hint = near or f"a number below {len(reader)}, or a key such as {keys[0]}"
    raise UserError(f"there is no sample '{sample}'", [Problem(message="is neither a place nor a key", hint=hint)])


def _name(reader: SampleReader, position: int) -> str:
    """What the log calls the sample that training reads there."""
    try:
        return reader.read(position).key
    except UnreadableSample as error:
        return error.where


def _write(sample: ReadSample, reader: SampleReader, member: str, place: Path) -> str:
    shown = reader.family.model_input(sample.value)
    if shown is None:
        raise UserError(f"the model family {type(reader.family).__name__} does not say what its model gets")
    about = {**_about(sample, member, shown), "tokens": sample.num_tokens}
    text = json.dumps(about, indent=2, ensure_ascii=False)
    with writing(place):
        (place / "frames").mkdir(parents=True)
        for number, frame in enumerate(shown.frames):
            picture_of(frame).save(place / "frames" / f"{number:04d}.png")
        if shown.frames:
            contact_sheet(shown.frames, SHEET_FRAMES, SHEET_COLUMNS, SHEET_SIDE).save(place / "contact_sheet.png")
        (place / "sample.json").write_text(text + "\n", encoding="utf-8")
        (place / "text.txt").write_text(_marked(shown), encoding="utf-8")
    return f"{place}: {sample.key}, {counted(len(shown.frames), 'frame')}, {counted(sample.num_tokens, 'token')}"


def _about(sample: ReadSample, member: str, shown: ModelInput) -> dict[str, Any]:
    """The content of sample.json."""
    record, media = sample.record, list[dict[str, Any]]()
    if isinstance(record, VideoText):
        media = [_clip(record, frames) for frames in shown.media]
    elif isinstance(record, Chat):
        parts = [part for message in record.messages for part in message.content if not isinstance(part, str)]
        media = [_medium(part, frames) for part, frames in zip(parts, shown.media, strict=True)]
    about = {"key": sample.key, **({"dataset": member} if member else {}), **_main(media)}
    if isinstance(record, VideoText):
        return about | {"caption": record.caption, "num_condition_frames": shown.num_condition_frames}
    if isinstance(record, Chat):
        names = iter(_with_pictures(media))
        return about | {"messages": [_message(message, names) for message in record.messages]}
    return about


def _main(media: list[dict[str, Any]]) -> dict[str, Any]:
    """Numbers and times of all pictures in `frames/`; the rest of the first video, or else of the first image."""
    first = next((medium for medium in media if medium["type"] == "video"), media[0] if media else {})
    about = {name: first.get(name) for name in ("file", "frame_indices", "frame_seconds", "fps", "width", "height")}
    if media:
        for name in ("frame_indices", "frame_seconds"):
            about[name] = [value for medium in media for value in medium[name]]
    return about


def _clip(record: VideoText, frames: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """A generator's clip; without a file its frames are counted, at the rate that the model is told."""
    if isinstance(record.video, ClipFile):
        clip, timeline = record.video, probe(record.video.path)
        file: str | None = str(clip.path)
        numbers = list(range(clip.first, clip.last + 1, clip.step))
        seconds = [timeline.seconds(number) for number in numbers]
    else:
        file, numbers = None, list(range(len(frames)))
        seconds = [number / record.fps for number in numbers]
    return _described("video", frames, file, numbers, seconds, record.fps)


def _medium(part: Image | Video, frames: tuple[torch.Tensor, ...]) -> dict[str, Any]:
    """An image or a video of a dialog; its last frame comes twice where the model gets it twice."""
    if isinstance(part, Image):
        return _described("image", frames, part.file, [0], [0.0], None)
    count = len(part.seconds)
    indices = list(part.indices or range(count))
    places = [min(number, count - 1) for number in range(len(frames))]
    return _described(
        "video", frames, part.file, [indices[n] for n in places], [part.seconds[n] for n in places], part.fps
    )


def _described(
    kind: str,
    frames: tuple[torch.Tensor, ...],
    file: str | None,
    indices: list[int],
    seconds: list[float],
    fps: float | None,
) -> dict[str, Any]:
    _, height, width = frames[0].shape
    rounded = [round(time, DIGITS) for time in seconds]
    return {
        "type": kind, "file": file, "frame_indices": indices, "frame_seconds": rounded, "fps": fps,
        "width": width, "height": height,
    }  # fmt: skip


def _with_pictures(media: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each medium with the names of its pictures."""
    number, named = 0, []
    for medium in media:
        count = len(medium["frame_indices"])
        named.append({**medium, "frames": [f"frames/{number + index:04d}.png" for index in range(count)]})
        number += count
    return named


def _message(message: Message, media: Any) -> dict[str, Any]:
    """A message with its texts, and in place of each medium its description, the next of `media`."""
    content = [{"type": "text", "text": part} if isinstance(part, str) else next(media) for part in message.content]
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return {"role": message.role, "content": content, **({"tool_calls": calls} if calls else {})}


def _marked(shown: ModelInput) -> str:
    """The rendered text, with brackets around what is learned."""
    runs = [(learned, "".join(text for text, _ in run)) for learned, run in groupby(shown.text, lambda piece: piece[1])]
    return "".join(f"{LEARNED}{text}{END}" if learned else text for learned, text in runs)
