"""What training on the CPU does beside the plain way: ``python -m tests.benchmarks.host``.

Clips: decoded as datasets do it, and by PyAV with its defaults, frame by frame. Memory: two layers on the bytes of 32
clips, forward and backward, with freed memory kept and with glibc's defaults, each in a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from cosmos_core.data.video import decode_frames, write_mp4
from cosmos_core.distributed.host_memory import keep_freed_memory
from cosmos_data_videophy.synthetic import FPS, FRAMES, draw
from cosmos_vlm.vision import normalised
from tests.benchmarks.timing import alternate, show, timed

__all__ = ["main"]

CLIPS = 64
STEPS = 40
PATCHES = (2048, 1536)
SETTINGS = {"kept": True, "glibc's defaults": False}


def main() -> None:
    """Measure and print; with the name of a memory setting, only its milliseconds."""
    if len(sys.argv) > 1:
        print(_milliseconds(keep=SETTINGS[sys.argv[1]]))
        return
    with tempfile.TemporaryDirectory() as folder:
        clips = [Path(folder) / f"{index}.mp4" for index in range(CLIPS)]
        for index, clip in enumerate(clips):
            write_mp4(clip, draw(1 + index % 5, np.random.default_rng(index)).pixels, FPS)
        assert all(np.array_equal(_ours(clip), _plain(clip)) for clip in clips)
        steps = {"cosmos": lambda: [_ours(clip) for clip in clips], "PyAV": lambda: [_plain(clip) for clip in clips]}
        _show(
            "clips of 8 frames, 64 x 64",
            {name: row["ms"] / CLIPS for name, row in alternate(steps, STEPS // 2).items()},
        )
    command = [sys.executable, "-m", "tests.benchmarks.host"]
    _show(
        "two layers on 2048 x 1536 bytes",
        {name: float(subprocess.check_output([*command, name], text=True)) for name in SETTINGS},
    )


def _ours(clip: Path) -> Any:
    return decode_frames(clip, range(FRAMES))


def _plain(clip: Path) -> Any:
    with av.open(str(clip)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _milliseconds(*, keep: bool) -> float:
    if keep:
        keep_freed_memory()
    torch.set_num_threads(1)
    patches = torch.randint(0, 256, PATCHES, dtype=torch.uint8)
    layers = torch.nn.Sequential(torch.nn.Linear(PATCHES[1], 256), torch.nn.GELU(), torch.nn.Linear(256, 64))

    def step() -> None:
        layers.zero_grad()
        layers(normalised(patches, torch.float32)).square().sum().backward()

    return 1e3 * statistics.median(timed(step, STEPS)[STEPS // 4 :])


def _show(title: str, times: dict[str, float]) -> None:
    first = next(iter(times.values()))
    show(title, [{"way": name, "ms": ms, "times cosmos": ms / first} for name, ms in times.items()])


if __name__ == "__main__":
    main()
