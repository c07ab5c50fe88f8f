"""Video codecs: a clip is encoded, decoded as for training, and compared frame by frame."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from attrs import frozen

from cosmos_core.data.video import Frames, decode_frames, write_mp4
from cosmos_core.doctor.check import Check, DoctorOptions, Result, Status

__all__ = ["CODECS", "Codec", "check_codec", "checks"]

FRAMES, HEIGHT, WIDTH = 12, 96, 128
BOUND = 6.0
"""Largest mean difference of a frame, in levels of 255; neighbouring frames of the clip are 20 and more apart."""
FPS = 24


@frozen
class Codec:
    """encoders: the first that PyAV has makes the clip. needed: for recipes and for pictures of samples."""

    name: str
    encoders: tuple[str, ...]
    suffix: str = ".mp4"
    pixels: str = "yuv420p"
    needed: bool = False


CODECS = (
    Codec("h264", ("libx264",), needed=True),
    Codec("hevc", ("libx265",)),
    Codec("vp9", ("libvpx-vp9",)),
    Codec("av1", ("libsvtav1", "libaom-av1")),
    Codec("mpeg4", ("mpeg4",)),
    Codec("prores", ("prores_ks", "prores"), suffix=".mov", pixels="yuv422p10le"),
)
OPTIONS = {
    "libx265": {"preset": "ultrafast", "crf": "12", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "12", "b": "0", "cpu-used": "8", "deadline": "realtime"},
    "libsvtav1": {"preset": "12", "crf": "15"},
    "libaom-av1": {"cpu-used": "8", "crf": "15"},
    "mpeg4": {"qscale": "2", "flags": "+qscale", "global_quality": "236"},
}
"""Good quality, quickly."""


def checks(options: DoctorOptions) -> Iterator[Check]:
    """Every codec that published datasets come in."""
    yield from (Check(codec.name, partial(check_codec, codec)) for codec in CODECS)


def check_codec(codec: Codec, decode: Callable[[Path, Sequence[int]], Frames] = decode_frames) -> Result:
    """Decode every frame of a clip and compare it with what was encoded."""
    hint = "install PyAV from its own wheels: `pip install --force-reinstall av`"
    missing: Status = "broken" if codec.needed else "note"
    if codec.name not in av.codecs_available:
        return Result(status=missing, message="PyAV has no decoder: such videos count as unreadable", hint=hint)
    encoder = next((name for name in codec.encoders if name in av.codecs_available), None)
    if encoder is None:
        text = "decoder present, not tested: PyAV has no encoder for a test clip"
        return Result(status=missing, message=text, hint=hint if codec.needed else "")
    clip = _clip()
    with tempfile.TemporaryDirectory(prefix="cosmos-doctor-") as folder:
        path = Path(folder) / f"clip{codec.suffix}"
        if encoder == "libx264":
            write_mp4(path, clip, FPS)
        else:
            _write(path, clip, codec, encoder)
        decoded = decode(path, range(FRAMES))
    if decoded.shape != clip.shape:
        return Result(status="broken", message=f"decoded to {decoded.shape} instead of {clip.shape}", hint=hint)
    errors = np.abs(decoded.astype(np.float32) - clip).mean(axis=(1, 2, 3))
    worst = int(errors.argmax())
    message = (
        f"{FRAMES} frames written by {encoder} and read; off by {errors[worst]:.1f} of 255 levels, at most {BOUND:g}"
    )
    if errors[worst] > BOUND:
        return Result(status="broken", message=f"frame {worst} is wrong: {message}", hint=hint)
    return Result(status="ok", message=message, data={"encoder": encoder, "error": float(errors[worst])})


def _clip() -> Frames:
    """[T, H, W, 3]: smooth waves in three colours that move from frame to frame."""
    time, rows, columns = np.meshgrid(np.arange(FRAMES), np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    phase = 2 * np.pi * (columns / WIDTH + time / FRAMES)
    waves = [np.sin(phase + turn + np.pi * rows / HEIGHT) for turn in (0.0, 0.3, 0.6)]
    return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _write(path: Path, clip: Frames, codec: Codec, encoder: str) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(encoder, rate=Fraction(FPS), options=OPTIONS.get(encoder, {}))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, codec.pixels
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
