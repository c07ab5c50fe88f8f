"""Decoded frames to upright RGB, by the filters that the ffmpeg program uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from cosmos_core.data.source import UnreadableSample
from cosmos_core.data.video.container import BROKEN, OpenVideo
from cosmos_core.data.video.orientation import Filters

__all__ = ["Convert", "check_colours", "rgb_converter"]

Convert = Callable[[Any], NDArray[np.uint8]]
"""A decoded frame to RGB [H, W, 3]."""

# Without it, interlaced chroma is read field by field, which the ffmpeg program does not do.
PROGRESSIVE = "interl=0"


def rgb_converter(video: OpenVideo, turns: Filters, scale: str) -> Convert:
    """The conversion for one file. scale: arguments of the scale filter, which sees the upright picture."""
    graph = av.filter.Graph()
    graph.threads = video.stream.codec_context.thread_count  # By default one for each core, which small frames pay for.
    nodes: list[Any] = [
        graph.add_buffer(template=video.stream),
        *(graph.add(name, argument) for name, argument in turns),
        graph.add("scale", f"{scale}:{PROGRESSIVE}"),
        graph.add("format", "rgb24"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes).configure()

    def convert(frame: Any) -> NDArray[np.uint8]:
        graph.push(frame)
        picture: Any = graph.pull()
        return np.asarray(picture.to_ndarray())

    return convert


def check_colours(video: OpenVideo, frame: Any, path: Path) -> None:
    """Raises UnreadableSample for colours that FFmpeg cannot convert to RGB, such as those of ICtCp.

    frame: one of the video's. path: its file, to name.
    """
    try:
        rgb_converter(video, (), "16:16")(frame)
    except BROKEN:
        reason = "its colour space cannot be converted to RGB; encode it anew in another one, such as BT.709"
        raise UnreadableSample(str(path), reason) from None
