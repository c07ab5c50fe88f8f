"""Video files: their timeline, frames by number, and writing."""

from __future__ import annotations

from cosmos_core.data.video.clip import ClipFile, cover_and_crop, decode
from cosmos_core.data.video.decode import Frames, check_decodes, decode_frames
from cosmos_core.data.video.timeline import Timeline, probe
from cosmos_core.data.video.write import write_mp4

__all__ = [
    "ClipFile",
    "Frames",
    "Timeline",
    "check_decodes",
    "cover_and_crop",
    "decode",
    "decode_frames",
    "probe",
    "write_mp4",
]
