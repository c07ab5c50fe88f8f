"""Images and videos of dialogs: found where they may lie, and read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
from attrs import frozen

from cosmos_core.data.chat.pictures import read_image
from cosmos_core.data.samples import Image, Video
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video import decode_frames, probe
from cosmos_core.errors import ONE_DATASET
from cosmos_core.hub import OutsidePath, RepositoryFiles, find_media
from cosmos_core.names import path_fault

__all__ = ["MediaReader", "frame_numbers", "read_video"]

MAX_NAME = 200
"""Characters that are told of a name that may be the image itself."""
OUTSIDE = "lies outside of the dataset's folder and its media_roots"


@frozen
class MediaReader:
    """Opens the media that rows name.

    root: the dataset's folder; None for rows of the Hub. folders: where relative names are looked up, in order, before
    the media roots. repository: where names of rows of the Hub are looked up. target_fps, max_frames: as in
    `frame_numbers`.
    """

    root: Path | None = None
    folders: tuple[Path, ...] = ()
    media_roots: tuple[str, ...] = ()
    repository: RepositoryFiles | None = None
    target_fps: float = 2.0
    max_frames: int = 32

    def image(self, source: Any) -> Image:
        """An image from embedded bytes, a ``data:`` URL, a path, or a table's ``{"bytes", "path"}``.

        Raises UnreadableSample.
        """
        return read_image(self.locate(source, "image"))

    def video(self, source: Any) -> Video:
        """A video, from the same, or one that is open. Raises UnreadableSample."""
        if isinstance(source, Video):
            return source
        return read_video(self.locate(source, "video"), self.target_fps, self.max_frames)

    def locate(self, source: Any, kind: str) -> Path | bytes:
        """Where an image or a video is, or its embedded data. Raises UnreadableSample."""
        if isinstance(source, Mapping):
            source = source.get("bytes") or source.get("path")
        if isinstance(source, str) and source.startswith("data:"):
            return _embedded(source, kind)
        return source if isinstance(source, bytes) else self._find(source, kind)

    def _find(self, source: Any, kind: str) -> Path:
        if not isinstance(source, str):
            raise UnreadableSample(f"{kind} {type(source).__name__}", f"{kind} is neither a path nor embedded")
        name = source.removeprefix("file://")
        if "://" in name:
            raise UnreadableSample(name[:MAX_NAME], f"{kind} is an address; download it and name the file")
        if not name.strip():
            raise UnreadableSample(repr(name), f"{kind} path is empty")
        if fault := path_fault(name):
            raise UnreadableSample(f"{name!r:.{MAX_NAME}}", f"{kind} path {fault}")
        if self.root is None:
            return self._fetch(name, kind)
        folders = (*self.folders, *map(Path, self.media_roots))
        folder = next((folder for folder in folders if (folder / name).exists()), folders[0])
        try:
            return find_media(name, folder, self.root, self.media_roots)
        except OutsidePath as error:
            where = str(error).replace(f"{ONE_DATASET}.", "")  # Who reports the sample knows the table.
            raise UnreadableSample(where, f"{kind} {OUTSIDE}", "media_roots") from None
        except ValueError as error:
            raise UnreadableSample(name, str(error)) from None

    def _fetch(self, name: str, kind: str) -> Path:
        if self.repository is None:
            raise UnreadableSample(name, f"{kind} is not embedded")
        try:
            return self.repository.fetch(name)
        except ValueError as error:
            raise UnreadableSample(name, f"{kind} {error}") from None


def _embedded(url: str, kind: str) -> bytes:
    header, comma, text = url.partition(",")
    try:
        if comma and header.endswith(";base64"):
            return base64.b64decode(text, validate=True)
    except ValueError:
        pass
    raise UnreadableSample(header[:80], f"{kind} is not a data: URL in base64")


def read_video(source: Path | bytes, target_fps: float, max_frames: int) -> Video:
    """Frames of a video at about `target_fps`, at most `max_frames`, with their times. Raises UnreadableSample."""
    if isinstance(source, bytes):
        with NamedTemporaryFile(prefix="cosmos-video-") as file:
            file.write(source)
            file.flush()
            try:
                return replace(read_video(Path(file.name), target_fps, max_frames), file=None)
            except UnreadableSample as error:
                raise UnreadableSample("an embedded video", error.reason) from None
    timeline = probe(source)
    fps = float(timeline.fps)
    numbers = frame_numbers(timeline.frames, fps, target_fps, max_frames)
    pixels = torch.from_numpy(decode_frames(source, numbers)).permute(3, 0, 1, 2)
    seconds = tuple(timeline.seconds(number) for number in numbers)
    return Video(pixels, seconds, str(source), tuple(numbers), fps)


def frame_numbers(count: int, fps: float, target_fps: float, max_frames: int) -> list[int]:
    """Frame numbers at about `target_fps`; if these are too many, `max_frames` of them, spread evenly."""
    frames = range(0, count, max(1, round(fps / target_fps)))
    if len(frames) <= max_frames:
        return list(frames)
    return [frames[round(index)] for index in np.linspace(0, len(frames) - 1, max_frames)]
