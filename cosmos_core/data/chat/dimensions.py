"""What a dialog is like, from the headers of its media."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import PIL.Image

from cosmos_core.config.run import TypicalSample
from cosmos_core.data.chat.forms import Dialog, MediaReference, parse_dialog
from cosmos_core.data.chat.media import MediaReader, frame_numbers
from cosmos_core.data.lengths import tokens_of
from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video import probe

__all__ = ["dimensions_of_row", "dimensions_of_video"]


def dimensions_of_row(row: Mapping[str, Any], where: str, media: MediaReader) -> TypicalSample | None:
    """Of a dialog in any of the usual forms; None for embedded videos.

    Several pictures count as so many of their mean width and area. Raises UnreadableSample.
    """
    try:
        dialog = parse_dialog(row)
    except ValueError as error:
        raise UnreadableSample(where, str(error)) from None
    text = sum(tokens_of(part) for turn in dialog.turns for part in turn.content if isinstance(part, str))
    references = list(_media(dialog))
    if any(part.kind == "video" for part in references):
        video = media.locate(next(part.source for part in references if part.kind == "video"), "video")
        return dimensions_of_video(video, media, text) if isinstance(video, Path) else None
    sizes = [_picture(media.locate(part.source, "image"), where) for part in references]
    if not sizes:
        return TypicalSample(frames=0, height=0, width=0, text=text)
    width = sum(w for w, _ in sizes) // len(sizes)
    height = sum(w * h for w, h in sizes) // (width * len(sizes))
    return TypicalSample(frames=1, height=height, width=width, text=text, pictures=len(sizes))


def dimensions_of_video(file: Path, media: MediaReader, text: int) -> TypicalSample:
    """Of a dialog about a video, whose text has so many tokens. Raises UnreadableSample."""
    timeline = probe(file)
    frames = len(frame_numbers(timeline.frames, float(timeline.fps), media.target_fps, media.max_frames))
    return TypicalSample(frames=frames, height=timeline.height, width=timeline.width, text=text)


def _media(dialog: Dialog) -> Iterator[MediaReference]:
    return (part for turn in dialog.turns for part in turn.content if isinstance(part, MediaReference))


def _picture(source: Path | bytes, where: str) -> tuple[int, int]:
    """Width and height, from the header."""
    try:
        with PIL.Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as stored:
            return stored.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise UnreadableSample(where, f"image cannot be read ({type(error).__name__})") from None
