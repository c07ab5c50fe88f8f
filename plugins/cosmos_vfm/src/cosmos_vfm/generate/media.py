"""The given image or video of a clip, scaled and cropped as the base models expect it.

See docs/models/generator.md, Conditions of generation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch.nn.functional import interpolate

from cosmos_core.data import UnreadableSample
from cosmos_core.data.chat import read_image
from cosmos_core.data.video import decode_frames, probe
from cosmos_core.errors import Problem, UserError
from cosmos_vfm.generate.clips import Clip
from cosmos_vfm.tokenizer.video import TEMPORAL

__all__ = ["check_media", "condition_of", "cover", "cover_and_crop"]

logger = logging.getLogger(__name__)

MAX_SILENT_CROP = 0.02
"""Share of a side that may be cut without a word."""


def check_media(clips: Iterable[Clip]) -> None:
    """Read every given file, and say what the crop cuts off. Raises UserError with all that cannot be read."""
    problems: list[Problem] = []
    for clip in clips:
        try:
            frames = _frames(clip)
        except UserError as error:
            problems += error.problems
            continue
        if frames is not None:
            _tell_crop(str(clip.image or clip.video), frames, clip)
    if problems:
        raise UserError("a given file cannot be read; nothing was started", problems)


def condition_of(clip: Clip) -> torch.Tensor | None:
    """float32 [3, t, H, W] of 0 to 255, or None without a file. Raises UserError when it cannot be read."""
    frames = _frames(clip)
    if frames is None:
        return None
    cropped = cover_and_crop(frames, clip.width, clip.height)
    # A picture has whole levels; frames of a video keep their fractions, as in the base models.
    return cropped.round().clamp(0, 255) if clip.image is not None else cropped.clamp(0, 255)


def _frames(clip: Clip) -> torch.Tensor | None:
    """What the condition takes of the clip's file, as it is there."""
    if clip.image is not None:
        return _image(clip.image)
    return _video(clip, clip.video) if clip.video is not None else None


def cover(width: int, height: int, target: tuple[int, int]) -> tuple[int, int]:
    """The smallest (width, height), of the same proportions, that covers the target."""
    ratio = max(target[0] / width, target[1] / height)
    return math.ceil(ratio * width), math.ceil(ratio * height)


def cover_and_crop(frames: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """float32 [3, T, H, W] -> [3, T, height, width]: bilinear with antialiasing, then the centre."""
    across, down = cover(frames.shape[3], frames.shape[2], (width, height))
    scaled = interpolate(
        frames.transpose(0, 1), size=(down, across), mode="bilinear", antialias=True, align_corners=False
    )
    top, left = round((down - height) / 2), round((across - width) / 2)
    return scaled[:, :, top : top + height, left : left + width].transpose(0, 1).contiguous()


def _image(path: Path) -> torch.Tensor:
    try:
        return read_image(path).pixels[:, None].float()
    except UnreadableSample as error:
        raise _unreadable(path, "image", error.reason) from None


def _video(clip: Clip, path: Path) -> torch.Tensor:
    """The first or last frames that the condition takes; a shorter file repeats its last."""
    count = 1 + TEMPORAL * (clip.condition_frames - 1)
    try:
        timeline = probe(path)
        first = max(0, timeline.frames - count) if clip.keep_last else 0
        frames = decode_frames(path, range(first, min(first + count, timeline.frames)))
    except UnreadableSample as error:
        raise _unreadable(path, "video", error.reason) from None
    decoded = torch.from_numpy(frames).permute(3, 0, 1, 2).float()
    missing = count - decoded.shape[1]
    return torch.cat([decoded, decoded[:, -1:].expand(-1, missing, -1, -1)], dim=1)


def _tell_crop(path: str, frames: torch.Tensor, clip: Clip) -> None:
    height, width = frames.shape[2:]
    across, down = cover(width, height, (clip.width, clip.height))
    cut = max(1 - clip.width / across, 1 - clip.height / down)
    if cut > MAX_SILENT_CROP:
        side = "width" if across - clip.width > down - clip.height else "height"
        sizes = f"is {width}x{height}, the clip {clip.width}x{clip.height}"
        logger.warning("%s %s: scaled, and %.0f%% of its %s cut off", path, sizes, 100 * cut, side)


def _unreadable(path: Path, key: str, reason: str) -> UserError:
    return UserError("a given file cannot be read", [Problem(message=reason, key=f"--{key}", file=str(path))])
