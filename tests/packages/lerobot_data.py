"""Writes a small LeRobot dataset, version 3: two cameras, several episodes in each video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.ffmpeg import ffmpeg

__all__ = ["CAMERAS", "FPS", "LENGTHS", "write_dataset"]

FPS = 10
LENGTHS = ((20, 17, 23), (18, 21))
"""Frames of the episodes in each video."""
CAMERAS = {"observation.images.front": (96, 64), "observation.images.wrist": (64, 64)}
TASKS = ("pick the cube", "place the cube")


def write_dataset(root: Path) -> Path:
    """Metadata, tables and videos of every camera."""
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    features = {"action": {"dtype": "float32", "shape": [2]}}
    features |= {name: {"dtype": "video", "shape": [height, width, 3]} for name, (width, height) in CAMERAS.items()}
    info = {
        "codebase_version": "v3.0",
        "fps": FPS,
        "total_episodes": sum(map(len, LENGTHS)),
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    tasks = pa.table({"task_index": list(range(len(TASKS))), "task": list(TASKS)})
    pq.write_table(tasks, root / "meta/tasks.parquet")
    episode = 0
    for file, lengths in enumerate(LENGTHS):
        rows = _episodes(lengths, file, episode)
        pq.write_table(pa.Table.from_pylist(rows), root / f"meta/episodes/chunk-000/file-{file:03d}.parquet")
        frames = [(row["episode_index"], frame) for row in rows for frame in range(row["length"])]
        columns = {"episode_index": [pair[0] for pair in frames], "frame_index": [pair[1] for pair in frames]}
        pq.write_table(pa.table(columns), root / f"data/chunk-000/file-{file:03d}.parquet")
        episode += len(lengths)
        for name, size in CAMERAS.items():
            _write_video(root / f"videos/{name}/chunk-000/file-{file:03d}.mp4", size, sum(lengths))
    return root


def _episodes(lengths: Sequence[int], file: int, first: int) -> list[dict]:
    rows, start, index = [], 0, sum(sum(before) for before in LENGTHS[:file])
    for number, length in enumerate(lengths, start=first):
        row = {
            "episode_index": number,
            "tasks": [TASKS[number % 2]],
            "length": length,
            "dataset_from_index": index + start,
            "dataset_to_index": index + start + length,
            "data/chunk_index": 0,
            "data/file_index": file,
        }
        for name in CAMERAS:
            times = {"from_timestamp": start / FPS, "to_timestamp": (start + length) / FPS}
            places = {"chunk_index": 0, "file_index": file}
            row |= {f"videos/{name}/{key}": value for key, value in {**places, **times}.items()}
        rows.append(row)
        start += length
    return rows


def _write_video(path: Path, size: tuple[int, int], frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = f"testsrc2=s={size[0]}x{size[1]}:r={FPS}:d={frames / FPS}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "12", "-bf", "2", path)
