"""A clip of a file, scaled and cropped as for the base models' training data."""

from __future__ import annotations

from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import frozen

from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video.container import MAX_PIXELS, OpenVideo
from cosmos_core.data.video.convert import Convert, rgb_converter
from cosmos_core.data.video.decode import Frames, frames_by_number
from cosmos_core.data.video.timeline import probe

__all__ = ["ClipFile", "cover_and_crop", "decode"]

REMEMBERED = 2**16
"""Files whose digests a process keeps."""
Size = tuple[int, int]
"""Width and height in pixels."""


@frozen
class Target:
    """Size to scale to, and the offsets of the crop inside it."""

    width: int
    height: int
    left: int
    top: int


def cover_and_crop(source: Size, target: Size) -> Target:
    """Smallest scaling of `source` that covers `target`, with a centred crop."""
    ratio = max(target[0] / source[0], target[1] / source[1])
    width, height = round(source[0] * ratio), round(source[1] * ratio)
    return Target(width, height, round((width - target[0]) / 2), round((height - target[1]) / 2))


def decode(path: Path, first: int, last: int, step: int, *, target: Size) -> Frames:
    """Frames first, first + step, ... up to `last` (inclusive), upright, covered and cropped to `target`.

    Raises UnreadableSample, also when the file holds fewer frames than asked for.
    """
    timeline = probe(path)
    scale = cover_and_crop((timeline.width, timeline.height), target)
    if scale.width * scale.height > MAX_PIXELS:
        sizes = f"{timeline.width} x {timeline.height} pixels, scaled to cover {target[0]} x {target[1]},"
        raise UnreadableSample(str(path), f"{sizes} are too elongated")

    def converter(video: OpenVideo) -> Convert:
        # Bicubic with accurate rounding and full chroma conversion, bit-equal to the ffmpeg filter.
        arguments = f"{scale.width}:{scale.height}:flags=bicubic+accurate_rnd"
        scaled = rgb_converter(video, timeline.turns, arguments)
        rows, columns = slice(scale.top, scale.top + target[1]), slice(scale.left, scale.left + target[0])
        return lambda frame: scaled(frame)[rows, columns]

    return np.stack(frames_by_number(path, timeline, range(first, last + 1, step), converter))


@lru_cache(maxsize=REMEMBERED)
def _hash_of_file(path: Path, size: int, changed: int) -> Any:
    """A hash object with the content; to be copied before it is updated."""
    with path.open("rb") as file:
        return file_digest(file, "sha256")


@frozen
class ClipFile:
    """StoredClip of the frames first, first + step, ..., last of a file, covered and cropped to `target`."""

    path: Path
    first: int
    last: int
    step: int
    target: Size

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(3, T, H, W)."""
        return 3, (self.last - self.first) // self.step + 1, self.target[1], self.target[0]

    def identity(self) -> str:
        """Digest of the file's content, the frames, and the sizes before and after. Raises UnreadableSample."""
        timeline = probe(self.path)
        try:
            about = self.path.stat()
            content = _hash_of_file(self.path, about.st_size, about.st_mtime_ns).copy()
        except OSError:
            raise UnreadableSample(str(self.path), "file is missing") from None
        source = (timeline.width, timeline.height)
        content.update(repr((self.first, self.last, self.step, source, self.target)).encode())
        return content.hexdigest()

    def load(self) -> torch.Tensor:
        """Decode. Raises UnreadableSample."""
        frames = decode(self.path, self.first, self.last, self.step, target=self.target)
        return torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous()
