"""Opens a video file: which stream is read, the limits, and errors of damaged files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import av.format
from av.codec.context import Flags
from av.stream import Disposition
from av.video.stream import VideoStream

from cosmos_core.data.source import UnreadableSample

__all__ = ["BROKEN", "MAX_PIXELS", "NO_VIDEO", "OpenVideo", "open_video", "reading"]

DECODER_THREADS = 2
FEW_PIXELS = 256 * 256
"""Pixels of a frame; smaller frames are decoded faster than a second thread starts."""
MAX_PIXELS = 8192 * 4320
"""Largest frame; a damaged header may claim any size."""
PLAYLISTS = ("concat", "dash", "hls", "imf")
"""Formats that open other files, which may lie outside of the dataset's folder."""
HEIF = ("heic", "heix", "heim", "heis", "mif1")
"""Brands of still pictures."""
JPEG = ("image2", "jpeg_pipe")
"""Formats of JPEG files: large ones get the first, small ones the second."""
NO_VIDEO = "not a video"
BROKEN = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)
"""What reading a damaged file raises. Not all FFmpeg errors are an OSError or a ValueError; some are an EOFError, which
click would take for the end of the user's input."""


class OpenVideo:
    """An open container and the video stream that is read from it."""

    def __init__(self, container: Any, stream: VideoStream) -> None:
        self.container = container
        self.stream = stream

    @property
    def is_picture(self) -> bool:
        """Whether the file is a picture by its content, such as PNG or JPEG."""
        name = str(self.container.format.name)
        return name in JPEG or name.endswith("_pipe")

    @property
    def may_jump(self) -> bool:
        """Whether the clock of the format may jump, as in recordings of broadcasts."""
        return bool(self.container.format.flags & av.format.Flags.ts_discont.value)

    def seek(self, time: int) -> None:
        """Go to the key frame at or before `time`, in the stream's time base."""
        self.container.seek(time, stream=self.stream)

    def packets(self) -> Iterator[Any]:
        """Packets of the stream from here to the end; the last one is empty and flushes the decoder."""
        # After the last packet, PyAV may look for a stream that came up in the middle of the file.
        with suppress(IndexError):
            yield from self.container.demux(self.stream)

    def frames(self) -> Iterator[Any]:
        """Frames from here to the end, in the order in which the decoder delivers them.

        Packets that cannot be decoded are skipped until the first frame, as the ffmpeg program does for a recording
        that begins between key frames. Later ones raise: the file is damaged. Empty ones, which Theora has where a
        picture is shown for longer, are no frames.
        """
        begun = False
        for packet in self.packets():
            try:
                frames = packet.decode()
            except av.ArgumentError:
                if packet.size:
                    raise
                continue
            except av.InvalidDataError:
                if begun or not packet.size:
                    raise
                continue
            for frame in frames:
                begun = True
                yield frame


@contextmanager
def reading(path: Path, reason: str) -> Iterator[None]:
    """Errors of damaged files become UnreadableSample with this reason."""
    try:
        yield
    except BROKEN as error:
        raise UnreadableSample(str(path), f"{reason} ({type(error).__name__})") from None


@contextmanager
def open_video(path: Path) -> Iterator[OpenVideo]:
    """The container's default video stream, never its cover art. Raises UnreadableSample."""
    if not path.is_file():
        raise UnreadableSample(str(path), "it is a folder and no file" if path.is_dir() else "file is missing")
    with reading(path, NO_VIDEO):
        # Metadata such as titles is not used, and may not be UTF-8. A relative path such as "a:b.mp4" would be taken
        # for an address, and "a_%d.jpg" for a series of files.
        container = av.open(str(path.absolute()), options={"pattern_type": "none"}, metadata_errors="replace")
    with container:
        if container.format.name in PLAYLISTS:
            raise UnreadableSample(str(path), "a list of other files; name those")
        stream = _default_stream(container)
        if stream is None:
            raise UnreadableSample(str(path), "no video stream")
        context = stream.codec_context
        if context is None:
            raise UnreadableSample(str(path), "no decoder for its video")
        if stream.disposition & Disposition.dependent or _is_heif(container, context.name):
            raise UnreadableSample(str(path), "a HEIF picture, or one in tiles; convert it to PNG or JPEG")
        if context.width * context.height > MAX_PIXELS:
            size = f"{context.width} x {context.height}"
            raise UnreadableSample(str(path), f"frames of {size} pixels are too large")
        # Without it, a crop from the left that is no multiple of some 32 pixels would be made smaller.
        context.flags |= Flags.unaligned
        context.thread_count = DECODER_THREADS if context.width * context.height > FEW_PIXELS else 1
        # Frames may be larger than the header says; then the decoder raises.
        context.options = {"max_pixels": str(MAX_PIXELS)}
        if container.format.name in JPEG:
            # The decoder would make up what a truncated file lacks.
            context.options = {**context.options, "err_detect": "explode"}
        yield OpenVideo(container, stream)


def _is_heif(container: Any, codec: str) -> bool:
    """FFmpeg decodes a HEIF picture without its crop."""
    return codec == "hevc" and container.metadata.get("major_brand") in HEIF


def _default_stream(container: Any) -> VideoStream | None:
    """The stream marked as default, else the largest; without cover art."""
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]

    def rank(stream: VideoStream) -> tuple[bool, int]:
        context = stream.codec_context
        return bool(stream.disposition & Disposition.default), context.width * context.height if context else 0

    return max(streams, key=rank, default=None)
