"""Writes video files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from cosmos_core.data.video.decode import Frames

__all__ = ["write_mp4"]


def write_mp4(path: Path, frames: Frames, fps: float, *, crf: int = 18, preset: str = "medium") -> None:
    """H.264 with 4:2:0 chroma; the same frames give the same bytes. Sides must be even. preset: of x264.

    The macroblock tree is off: x264's vector code for it reads uninitialised memory, so that equal frames sometimes
    give unequal files.
    """
    with av.open(str(path), "w") as container:
        options = {"crf": str(crf), "preset": preset, "threads": "1", "mbtree": "0"}
        stream: Any = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
