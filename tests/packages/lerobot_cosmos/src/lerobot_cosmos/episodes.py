"""Which episode lies where: meta/info.json and meta/episodes of a LeRobot dataset, version 3."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from cosmos_core.errors import Problem, UserError
from cosmos_core.hub import find_media
from lerobot_cosmos.config import LeRobot

logger = logging.getLogger(__name__)

KEY = "dataloader_train.dataset"
MAX_PROBLEMS = 10


@dataclass(frozen=True)
class Episode:
    """Frames first, first + 1, ... of a video that other episodes share. seconds: when the first is shown."""

    key: str
    caption: str
    video: Path
    first: int
    frames: int
    seconds: float


def read_episodes(config: LeRobot) -> tuple[list[Episode], float]:
    """All episodes in order, and the frame rate. Raises UserError."""
    root = Path(config.path)
    info = _info(root / "meta/info.json")
    fps, camera = float(info["fps"]), _camera(info["features"], config.camera)
    episodes: list[Episode] = []
    problems: list[Problem] = []
    for file in sorted((root / "meta/episodes").glob("*/*.parquet")):
        for row in _rows(file, camera):
            try:
                episodes.append(_episode(row, camera, info["video_path"], fps, config))
            except ValueError as error:
                problems.append(Problem(message=f"episode {row['episode_index']}: {error}", file=str(file)))
    if problems:
        raise UserError(f"{len(problems)} bad episodes; nothing was started", problems[:MAX_PROBLEMS])
    if not episodes:
        raise UserError(f"no episodes below {root / 'meta/episodes'}; nothing was started")
    return episodes, fps


def _info(file: Path) -> Mapping[str, Any]:
    try:
        info = json.loads(file.read_bytes())
        version = info["codebase_version"]
        known = float(info["fps"]) > 0 and isinstance(info["features"], dict) and isinstance(info["video_path"], str)
    except OSError:
        raise _refused("no such file; is this a LeRobot dataset?", file) from None
    except (ValueError, TypeError, KeyError) as error:
        raise _refused(
            f"not the description of a dataset with videos ({type(error).__name__}: {error})", file
        ) from None
    if not str(version).startswith("v3."):
        hint = "lerobot.scripts.convert_dataset_v21_to_v30 of the package lerobot converts older ones"
        raise _refused(f"version {version}; only v3 is read", file, hint)
    if not known:
        raise _refused("fps, features or video_path is wrong", file)
    return info


def _camera(features: Mapping[str, Mapping[str, Any]], name: str | None) -> str:
    """The configured camera, or the first one."""
    cameras = [key for key, feature in features.items() if feature.get("dtype") == "video"]
    if name is None and cameras:
        logger.info("camera %s of %s", cameras[0], ", ".join(cameras))
        return cameras[0]
    if name not in cameras:
        message = f"no camera '{name}' with videos" if name else "no camera with videos"
        problem = Problem(message=message, key=f"{KEY}.camera", hint=f"there are {', '.join(cameras) or 'none'}")
        raise UserError("the camera is not in the dataset; nothing was started", [problem])
    return name


def _rows(file: Path, camera: str) -> Iterator[Mapping[str, Any]]:
    """Rows with the columns that are needed, by their short names; the others hold statistics."""
    video = f"videos/{camera}/"
    columns = {"episode_index": "", "tasks": "", "length": ""}
    columns |= dict.fromkeys(("chunk_index", "file_index", "from_timestamp", "to_timestamp"), video)
    try:
        table = pq.read_table(file, columns=[prefix + name for name, prefix in columns.items()])
    except (OSError, pyarrow.ArrowException) as error:
        raise _refused(str(error).splitlines()[0], file) from None
    if table.num_columns < len(columns):
        absent = {prefix + name for name, prefix in columns.items()} - set(table.column_names)
        raise _refused(f"no column {', '.join(sorted(absent))}", file)
    for row in table.to_pylist():
        yield {name.removeprefix(video): value for name, value in row.items()}


def _episode(row: Mapping[str, Any], camera: str, pattern: str, fps: float, config: LeRobot) -> Episode:
    """Raises ValueError for an episode that cannot be used."""
    try:
        name = pattern.format(video_key=camera, chunk_index=row["chunk_index"], file_index=row["file_index"])
        first, end = (round(row[name] * fps) for name in ("from_timestamp", "to_timestamp"))
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"its video is not named ({type(error).__name__}: {error})") from None
    video = find_media(name, Path(config.path), Path(config.path), config.media_roots)
    if not video.is_file():
        raise ValueError(f"its video {video} is missing")
    if end - first != row["length"] or not row["length"]:
        raise ValueError(f"it has {row['length']} frames, but {end - first} between its times")
    caption = "; ".join(row["tasks"] or ()).strip()
    if not caption:
        raise ValueError("it has no task")
    return Episode(f"episode_{row['episode_index']:06d}", caption, video, first, row["length"], row["from_timestamp"])


def _refused(message: str, file: Path, hint: str = "") -> UserError:
    problem = Problem(message=message, file=str(file), key=f"{KEY}.path", hint=hint)
    return UserError("the dataset cannot be read; nothing was started", [problem])
