"""Clips a second of one's own folder, beside plain PyAV: ``python -m tests.benchmarks.prepare_folder [--clips 1000]``.

Writes clips of 25 frames, 320 x 240, with captions. Prepares them, opens and loads them through the dataset; beside
each, PyAV does the bare work on the same files with as many threads, in the order A B B A. Then `cosmos data check`
reads them. Processor time hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from cosmos_core.data.video import cover_and_crop, write_mp4
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.folder.config import FolderConfig
from cosmos_data_bridge.folder.dataset import FolderSource
from tests.benchmarks.timing import show
from tests.folder_clips import prepare_here

FRAMES, WIDTH, HEIGHT, FPS = 25, 320, 240, 25
TARGET = (320, 256)
"""Of this shape at the tier 256."""
CPUS = os.cpu_count() or 1
OPTIONS: dict[str, Any] = {"resolution": "256", "min_window_frames": 1, "cfg_dropout_rate": 0.0}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    clips: int = parser.parse_args().clips
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "clips"
        write_clips(folder, clips)
        files = sorted(folder.glob("*.mp4"))
        out = Path(name) / "out0"
        places = (Path(name) / f"out{number}" for number in count())
        rows = [
            *_pair("prepare: decode all", clips, lambda: prepare(folder, next(places)), lambda: decode_all(files)),
            *_pair("open: count and time frames", clips, lambda: open_folder(folder), lambda: scan_all(files)),
            *_pair("load: decode, scale and crop", clips, lambda: load(folder, out), lambda: load_all(files)),
        ]
        show(f"{clips} clips, {FRAMES} frames, {WIDTH} x {HEIGHT}, {CPUS} cores", rows)
        wall, used = check(out)
        show("cosmos data check, the whole command", [{"clips": clips, "s": wall, "processor s": used}])


def write_clips(folder: Path, clips: int) -> None:
    """Blocks of random colours that change from frame to frame."""
    folder.mkdir()
    for number in range(clips):
        blocks = np.random.default_rng(number).integers(0, 256, (FRAMES, HEIGHT // 16, WIDTH // 16, 3), np.uint8)
        write_mp4(folder / f"{number:05d}.mp4", blocks.repeat(16, 1).repeat(16, 2), FPS)
        (folder / f"{number:05d}.txt").write_text(f"blocks of colour, number {number}")


def prepare(folder: Path, out: Path) -> None:
    """As `cosmos data prepare folder` does."""
    touch(folder)
    prepare_here(folder, out)


def decode_all(files: list[Path]) -> None:
    """Every frame of every file, in threads."""
    with ThreadPoolExecutor(CPUS) as pool:
        assert set(pool.map(_count_frames, files)) == {FRAMES}


def _count_frames(file: Path) -> int:
    with av.open(str(file)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def open_folder(folder: Path) -> None:
    """As a run on the dataset `folder` begins."""
    touch(folder)
    assert len(FolderSource(FolderConfig(type="folder", path=str(folder), validation=0.0, **OPTIONS)))


def touch(folder: Path) -> None:
    """Other times of change, so that nothing is remembered from an earlier turn."""
    for file in folder.glob("*.mp4"):
        os.utime(file)


def scan_all(files: list[Path]) -> None:
    """Packets of every file, and its first frame, in threads."""
    with ThreadPoolExecutor(CPUS) as pool:
        assert set(pool.map(_scan, files)) == {FRAMES}


def _scan(file: Path) -> int:
    with av.open(str(file)) as container:
        next(container.decode(video=0))
        container.seek(0)
        return sum(1 for packet in container.demux(video=0) if packet.size)


def load(folder: Path, out: Path) -> None:
    """Every sample of the first epoch through the dataset, one after another."""
    touch(folder)
    source = BridgeSource(BridgeConfig(type="bridge", path=str(out), media_roots=(str(folder),), **OPTIONS))
    random = np.random.default_rng(0)
    for index in range(len(source)):
        assert source.get(index, random).pixels().shape == (3, FRAMES, TARGET[1], TARGET[0])


def load_all(files: list[Path]) -> None:
    """The same frames by PyAV's own scaler, one file after another."""
    for file in files:
        assert _tensor(file).shape == (3, FRAMES, TARGET[1], TARGET[0])


def _tensor(file: Path) -> torch.Tensor:
    target = cover_and_crop((WIDTH, HEIGHT), TARGET)
    rows, columns = slice(target.top, target.top + TARGET[1]), slice(target.left, target.left + TARGET[0])

    def frames() -> Iterator[Any]:
        with av.open(str(file)) as container:
            container.streams.video[0].codec_context.thread_count = 2
            for frame in container.decode(video=0):
                scaled = frame.reformat(target.width, target.height, "rgb24", interpolation="BICUBIC")
                yield scaled.to_ndarray()[rows, columns]

    return torch.from_numpy(np.stack(list(frames()))).permute(3, 0, 1, 2).contiguous()


def check(out: Path) -> tuple[float, float]:
    """Wall-clock and processor seconds of `cosmos data check`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "cosmos_core", "data", "check", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _pair(what: str, clips: int, ours: Callable[[], None], plain: Callable[[], None]) -> list[dict[str, Any]]:
    """The better of two turns of each, and how many times as long as PyAV ours takes."""
    walls: dict[str, list[float]] = {"cosmos": [], "PyAV": []}
    used: dict[str, list[float]] = {"cosmos": [], "PyAV": []}
    for name, action in (("cosmos", ours), ("PyAV", plain), ("PyAV", plain), ("cosmos", ours)):
        start, processor = time.perf_counter(), time.process_time()
        action()
        walls[name].append(time.perf_counter() - start)
        used[name].append(time.process_time() - processor)
    return [
        {
            "work": what,
            "way": name,
            "clips/s": clips / min(walls[name]),
            "processor ms a clip": 1e3 * min(used[name]) / clips,
            "times PyAV": min(used[name]) / min(used["PyAV"]),
        }
        for name in walls
    ]


if __name__ == "__main__":
    main()
