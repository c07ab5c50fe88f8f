"""Video files: probe, decode, resize and crop as for the base models' training data, and write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from attrs import frozen
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from cosmos_core.data.source import UnreadableSample

__all__ = [
    "ClipFile",
    "Frames",
    "Probe",
    "cover_and_crop",
    "decode",
    "decode_chosen",
    "decode_frames",
    "probe",
    "write_mp4",
]

Frames = NDArray[np.uint8]
"""[T, H, W, 3], RGB."""

DECODER_THREADS = 2
FEW_PIXELS = 256 * 256
"""Pixels of a frame; smaller frames are decoded faster than a second thread starts."""
MOST_PIXELS = 8192 * 4320
"""Largest frame; a damaged header may claim any size."""
MOST_FRAMES = 1 << 31
"""Longest file; a damaged header may claim any number."""
BROKEN = (av.FFmpegError, OSError, ValueError, ArithmeticError, MemoryError)
"""What reading a damaged file raises. Not all FFmpeg errors are an OSError or a ValueError; some are an EOFError, which
click would take for the end of the user's input."""


@frozen
class Probe:
    """fps: exact frame rate. frames: their number, as the container states it."""

    fps: Fraction
    frames: int
    constant_rate: bool


@frozen
class Target:
    """Size to scale to, and the offsets of the crop inside it."""

    width: int
    height: int
    left: int
    top: int


def cover_and_crop(source: tuple[int, int], target: tuple[int, int]) -> Target:
    """Smallest scaling of `source` that covers `target`, with a centred crop; sizes are (width, height)."""
    ratio = max(target[0] / source[0], target[1] / source[1])
    width, height = round(source[0] * ratio), round(source[1] * ratio)
    return Target(width, height, round((width - target[0]) / 2), round((height - target[1]) / 2))


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Errors of damaged files become UnreadableSample, with `what` as the reason."""
    try:
        yield
    except BROKEN as error:
        raise UnreadableSample(str(path), f"{what} ({type(error).__name__})") from None


def _open(path: Path) -> Any:
    if not path.is_file():
        raise UnreadableSample(str(path), "file is missing")
    with _reading(path, "not a video"):
        # Metadata such as titles is not used, and may not be UTF-8.
        container = av.open(str(path), metadata_errors="replace")
    reason = _undecodable(container)
    if reason:
        container.close()
        raise UnreadableSample(str(path), reason)
    return container


def _undecodable(container: Any) -> str:
    """Why the container cannot be decoded; '' if it can."""
    if not container.streams.video:
        return "no video stream"
    context = container.streams.video[0].codec_context
    if context is None:
        return "no decoder for its video"
    if context.width * context.height > MOST_PIXELS:
        return f"frames of {context.width} x {context.height} pixels are too large"
    return ""


def _stream(container: Any) -> Any:
    """The video stream, ready to decode; for a frame that is too large the decoder raises."""
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = DECODER_THREADS if context.width * context.height > FEW_PIXELS else 1
    context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def _probe(container: Any, path: Path) -> Probe:
    stream = container.streams.video[0]
    fps = stream.base_rate or stream.average_rate
    if not fps or fps < 0:
        raise UnreadableSample(str(path), "no frame rate")
    frames = stream.frames
    if not frames and stream.duration is not None and stream.time_base is not None:
        frames = int(stream.duration * stream.time_base * fps)
    if not 0 <= frames < MOST_FRAMES:
        raise UnreadableSample(str(path), "impossible number of frames")
    return Probe(Fraction(fps), frames, stream.average_rate == fps)


def probe(path: Path) -> Probe:
    """Frame rate and count. Raises UnreadableSample."""
    with _open(path) as container, _reading(path, "damaged video"):
        return _probe(container, path)


def decode(path: Path, first: int, last: int, step: int, *, source: tuple[int, int], target: tuple[int, int]) -> Frames:
    """Frames first, first + step, ... up to `last` (inclusive), covered and cropped to `target` (width, height).

    source: the clip's (width, height) in its record. Raises UnreadableSample, also when the file holds fewer
    frames than asked for.
    """
    numbers = range(first, last + 1, step)
    scale = cover_and_crop(source, target)
    frames: list[Frames] = []
    with _open(path) as container, _reading(path, "damaged video"):
        for frame in _scaled(_selected(container, _probe(container, path), numbers), container, scale):
            rows = slice(scale.top, scale.top + target[1])
            frames.append(frame[rows, scale.left : scale.left + target[0]])
    if len(frames) < len(numbers):
        raise UnreadableSample(str(path), "video is shorter than its record says")
    return np.stack(frames)


@frozen
class ClipFile:
    """StoredClip of the frames first, first + step, ..., last of a file, covered and cropped to `target`."""

    path: Path
    first: int
    last: int
    step: int
    source: tuple[int, int]
    target: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(3, T, H, W)."""
        return 3, (self.last - self.first) // self.step + 1, self.target[1], self.target[0]

    def identity(self) -> str:
        """Digest of the file's content, the frames and the sizes. Raises UnreadableSample."""
        try:
            content = sha256(self.path.read_bytes())
        except OSError:
            raise UnreadableSample(str(self.path), "file is missing") from None
        content.update(repr((self.first, self.last, self.step, self.source, self.target)).encode())
        return content.hexdigest()

    def load(self) -> torch.Tensor:
        """Decode. Raises UnreadableSample."""
        frames = decode(self.path, self.first, self.last, self.step, source=self.source, target=self.target)
        return torch.from_numpy(frames).permute(3, 0, 1, 2).contiguous()


def decode_frames(path: Path, numbers: Sequence[int]) -> Frames:
    """The frames with these increasing numbers, at their own size. Raises UnreadableSample."""
    with _open(path) as container:
        return _frames(container, path, numbers)


def decode_chosen(path: Path, choose: Callable[[Probe], Sequence[int]]) -> tuple[Frames, tuple[float, ...]]:
    """The frames whose increasing numbers `choose` returns, at their own size, and their times in seconds.

    Raises UnreadableSample.
    """
    with _open(path) as container:
        with _reading(path, "damaged video"):
            info = _probe(container, path)
        numbers = choose(info)
        return _frames(container, path, numbers), tuple(number / float(info.fps) for number in numbers)


def _frames(container: Any, path: Path, numbers: Sequence[int]) -> Frames:
    selected = set(numbers)
    frames: list[Frames] = []
    # One for the whole file: a scaler for each frame would cost more than the conversion.
    colours: Any = VideoReformatter()
    with _reading(path, "damaged video"):
        for number, frame in enumerate(container.decode(_stream(container))):
            if number in selected:
                frames.append(colours.reformat(frame, format="rgb24").to_ndarray())
            if len(frames) == len(selected):
                break
    if len(frames) < len(selected):
        raise UnreadableSample(str(path), "video is shorter than its container says")
    if len({frame.shape for frame in frames}) > 1:
        raise UnreadableSample(str(path), "frames of different sizes")
    return np.stack(frames)


def _selected(container: Any, info: Probe, numbers: range) -> Iterator[Any]:
    """The frames with these numbers, decoded from the key frame before them where the frame rate is constant."""
    stream = _stream(container)
    seek = numbers.start > 0 and info.constant_rate and stream.time_base is not None
    if seek:
        offset = int(numbers.start / info.fps / stream.time_base)
        container.seek(offset + (stream.start_time or 0), stream=stream)
    for number, frame in enumerate(container.decode(stream)):
        index = number
        if seek:
            if frame.pts is None:
                raise ValueError("a frame without a time")
            index = round((frame.pts - (stream.start_time or 0)) * stream.time_base * info.fps)
        if index >= numbers.stop:
            return
        if index in numbers:
            yield frame


def _scaled(frames: Iterator[Any], container: Any, target: Target) -> Iterator[Frames]:
    """Bicubic scaling with accurate rounding and full chroma conversion, bit-equal to the ffmpeg filter."""
    graph = av.filter.Graph()
    nodes = (
        graph.add_buffer(template=container.streams.video[0]),
        graph.add("scale", f"{target.width}:{target.height}:flags=bicubic+accurate_rnd"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    )
    graph.link_nodes(*nodes).configure()
    for frame in frames:
        graph.push(frame)
        yield graph.pull().to_ndarray()


def write_mp4(path: Path, frames: Frames, fps: float, *, crf: int = 18) -> None:
    """H.264 with 4:2:0 chroma; the same frames give the same bytes. Sides must be even.

    The macroblock tree is off: x264's vector code for it reads uninitialised memory, so that equal frames sometimes
    give unequal files.
    """
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": "medium", "threads": "1", "mbtree": "0"}
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
