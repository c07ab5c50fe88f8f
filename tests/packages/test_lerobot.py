"""The example of the guide to plugins: episodes of a LeRobot dataset, from a package that pip installs."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.errors import UserError
from tests.command import ROOT, cosmos, metric_records
from tests.ffmpeg import ffmpeg
from tests.packages.builder import install
from tests.packages.lerobot_data import CAMERAS, FPS, LENGTHS, write_dataset
from tests.unit.logged import logged

PACKAGE = Path(__file__).parent / "lerobot_cosmos"
FRONT, WRIST = CAMERAS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("lerobot") / "data")


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package, importable without being installed."""
    monkeypatch.syspath_prepend(PACKAGE / "src")
    yield
    for name in [name for name in sys.modules if name.startswith("lerobot_cosmos")]:
        del sys.modules[name]


def source_of(path: Path, **options: Any) -> Any:
    config = import_module("lerobot_cosmos.config").LeRobot(type="lerobot", path=str(path), **options)
    return import_module("lerobot_cosmos.dataset").EpisodeSource(config)


def shown_by_ffmpeg(path: Path, width: int, height: int) -> np.ndarray:
    """All frames, converted as the training data of the base models were."""
    scale = f"scale={width}:{height}:flags=bicubic+accurate_rnd"
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-vf", scale, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.mark.parametrize("camera", CAMERAS)
def test_an_episode_has_its_own_frames_of_the_video_that_it_shares(dataset: Path, camera: str) -> None:
    width, height = CAMERAS[camera]
    source = source_of(dataset, camera=camera, width=width, height=height)
    index = 0
    for file, lengths in enumerate(LENGTHS):
        shown = shown_by_ffmpeg(dataset / f"videos/{camera}/chunk-000/file-{file:03d}.mp4", width, height)
        start = 0
        for length in lengths:
            sample = source.get(index, np.random.default_rng(0))
            frames = sample.video.permute(1, 2, 3, 0).numpy()
            assert len(frames) == 1 + (length - 1) // 4 * 4
            assert np.array_equal(frames, shown[start : start + len(frames)])
            task = ("pick the cube", "place the cube")[index % 2]
            assert (sample.key, sample.caption, sample.fps) == (f"episode_{index:06d}", task, FPS)
            start, index = start + length, index + 1
    assert len(source) == index


def test_the_first_camera_is_taken_and_told(dataset: Path) -> None:
    with logged("lerobot_cosmos") as lines:
        source = source_of(dataset)
    assert lines == [f"camera {FRONT} of {FRONT}, {WRIST}"]
    assert {episode.video.parts[-3] for episode in source.episodes} == {FRONT}


def changed(dataset: Path, folder: Path) -> Path:
    return Path(shutil.copytree(dataset, folder / "changed"))


def rewrite(root: Path, **facts: Any) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    (root / "meta/info.json").write_text(json.dumps({**info, **facts}))


def set_column(root: Path, name: str, value: Any) -> None:
    file = root / "meta/episodes/chunk-000/file-001.parquet"
    rows = [{**row, name: value} for row in pq.read_table(file).to_pylist()]
    pq.write_table(import_module("pyarrow").Table.from_pylist(rows), file)


VIDEO = f"videos/{FRONT}/chunk-000/file-001.mp4"
FAULTS = {
    "no info": (lambda root: (root / "meta/info.json").unlink(), "no such file", "meta/info.json"),
    "no object": (lambda root: (root / "meta/info.json").write_text("[]"), "not the description", "meta/info.json"),
    "another version": (lambda root: rewrite(root, codebase_version="v2.1"), "version v2.1; only v3", "meta/info.json"),
    "no rate": (lambda root: rewrite(root, fps=0), "fps, features or video_path is wrong", "meta/info.json"),
    "no videos": (lambda root: rewrite(root, features={}), "no camera with videos", ""),
    "no video": (
        lambda root: (root / VIDEO).unlink(),
        f"episode 3: its video .*{VIDEO} is missing",
        "file-001.parquet",
    ),
    "outside": (lambda root: rewrite(root, video_path="../{video_key}"), "outside", ".parquet"),
    "odd pattern": (lambda root: rewrite(root, video_path="{name}"), "its video is not named", ".parquet"),
    "no task": (lambda root: set_column(root, "tasks", []), "episode 3: it has no task", "file-001.parquet"),
    "lengths": (lambda root: set_column(root, "length", 9), "9 frames, but 18 between", "file-001.parquet"),
    "no table": (
        lambda root: (root / "meta/episodes/chunk-000/file-001.parquet").write_bytes(b"PAR1"),
        "Parquet",
        "file-001.parquet",
    ),
    "no episodes": (lambda root: shutil.rmtree(root / "meta/episodes"), "no episodes below", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_dataset_that_cannot_be_used_is_refused_with_the_file(dataset: Path, tmp_path: Path, fault: str) -> None:
    root = changed(dataset, tmp_path)
    change, message, file = FAULTS[fault]
    change(root)
    with pytest.raises(UserError, match=message) as refused:
        source_of(root)
    assert all(problem.file.endswith(file) for problem in refused.value.problems)


def test_a_video_that_is_too_short_or_of_another_rate_makes_unreadable_samples(dataset: Path, tmp_path: Path) -> None:
    root = changed(dataset, tmp_path)
    ffmpeg("-i", dataset / VIDEO, "-frames:v", "30", root / VIDEO)
    source = source_of(root)
    source.get(3, np.random.default_rng(0))
    short = f"{VIDEO}: episode_000004 promises frames 18 to 38, the file has 30 frames"
    with pytest.raises(UnreadableSample, match=short):
        source.get(4, np.random.default_rng(0))
    ffmpeg("-r", "20", "-i", dataset / VIDEO, root / VIDEO)
    with pytest.raises(UnreadableSample, match="begins at 1.800 s, frame 18 is shown at 0.900 s"):
        source_of(root).get(4, np.random.default_rng(0))


def test_the_guide_shows_what_is_in_the_package() -> None:
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    section = page.partition("## Example: episodes of a robot\n")[2].partition("\n## ")[0]
    excerpts = re.findall(r"`([\w.]+)`[^`]*?:\n\n```(?:python|toml)\n(.*?)```", section, re.DOTALL)
    assert len(excerpts) == section.count("```") // 2 >= 4
    for name, excerpt in excerpts:
        [file] = PACKAGE.rglob(name)
        text = file.read_text(encoding="utf-8")
        assert excerpt in text or indent(excerpt, "    ") in text, f"{name} does not hold\n{excerpt}"


RECIPE = """
extends = "vision_sft_demo"
unset = ["dataloader_train.dataset", "dataloader_val"]

[trainer]
max_iter = 2
run_validation = false

[scheduler]
cycle_lengths = [2]
warm_up_steps = [0]

[dataloader_train]
max_samples_per_batch = 2

[dataloader_train.dataset]
type = "lerobot"
path = "{path}"
width = 64
height = 64
"""


def test_the_installed_package_trains_a_tiny_generator_and_refuses_an_unknown_camera(
    dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(RECIPE.format(path=dataset))
    target = install(tmp_path / "site", PACKAGE)["PYTHONPATH"]
    env = {"PYTHONPATH": os.pathsep.join(filter(None, (target, os.environ.get("PYTHONPATH"))))}
    assert cosmos("plugins", "check", "lerobot", env=env).stdout == "lerobot: ok\n"
    run = ("run", str(tmp_path / "own.toml"), "--output-root", str(tmp_path / "runs"))
    unknown = cosmos(*run, "dataloader_train.dataset.camera=top", "--dry-run", env=env, code=2).stderr
    assert "no camera 'top' with videos" in unknown
    assert f"there are {FRONT}, {WRIST}" in unknown
    done = cosmos(*run, env=env)
    assert "done at step 2/2" in done.stderr
    [folder] = (tmp_path / "runs").glob("*/*/*")
    assert [record["step"] for record in metric_records(folder) if "loss" in record][-1] == 2
