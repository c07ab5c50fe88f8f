"""The ffmpeg program: makes videos, and says what is in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

__all__ = ["ffmpeg", "shown_frames", "shown_times"]


def ffmpeg(*arguments: str | Path) -> bytes:
    """What it writes to standard output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def shown_frames(path: Path, width: int, height: int) -> np.ndarray:
    """All frames as a player shows them, [T, H, W, 3]."""
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def shown_times(path: Path) -> list[float]:
    """When each frame is shown, in seconds from the first."""
    text = ffmpeg("-i", path, "-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-").decode()
    base = next(line.split()[2] for line in text.splitlines() if line.startswith("#tb 0:"))
    numerator, denominator = map(int, base.split("/"))
    ticks = [int(line.split(",")[2]) for line in text.splitlines() if not line.startswith("#")]
    return [(tick - ticks[0]) * numerator / denominator for tick in ticks]
