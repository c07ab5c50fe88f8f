"""W&B offline, TensorBoard, and what happens when a tracker fails."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cosmos_core.builtin.config import Jsonl, Tensorboard, Wandb
from cosmos_core.builtin.trackers.jsonl import JsonlTracker
from cosmos_core.builtin.trackers.tensorboard import TensorboardTracker
from cosmos_core.builtin.trackers.wandb import WandbTracker
from cosmos_core.config import TrackerConfig
from cosmos_core.data import Answer
from cosmos_core.data.video import write_mp4
from cosmos_core.plugin import PluginManager
from cosmos_core.recipes.loading import resolve
from cosmos_core.report.metrics_file import read_metrics
from cosmos_core.train import Media, Tracker
from cosmos_core.train.tracker import TrackerGroup, tracker_class
from tests.command import cosmos
from tests.unit.logged import logged

SHORT = ("trainer.max_iter=4", "scheduler.cycle_lengths=[4]", "scheduler.warm_up_steps=[1]", "checkpoint.save_iter=2")


def run(root: Path, *extra: str, code: int = 0, **env: str) -> tuple[Path, str]:
    done = cosmos("run", "hello", *SHORT, "--output-root", str(root), *extra, env=env, code=code)
    return root / "cosmos3/sft/hello", done.stderr


def test_wandb_offline_keeps_one_run_over_a_resume(tmp_path: Path) -> None:
    offline = {"WANDB_SILENT": "true", "WANDB_API_KEY": "local-secret-key"}
    run_dir, _ = run(tmp_path, "job.wandb_mode=offline", "trainer.max_iter=2", **offline)
    first = (run_dir / "wandb_id.txt").read_text().strip()
    run_dir, log = run(tmp_path, "job.wandb_mode=offline", **offline)
    assert "resume from" in log
    assert "failed and is switched off" not in log
    assert (run_dir / "wandb_id.txt").read_text().strip() == first
    files = list((run_dir / "wandb").glob(f"offline-run-*/run-{first}.wandb"))
    assert files
    assert all(b"local-secret-key" not in path.read_bytes() for path in run_dir.rglob("*") if path.is_file())


def test_tensorboard_holds_every_figure_once(tmp_path: Path) -> None:
    board = "trackers.tensorboard.enabled=true"
    run(tmp_path, board, "trainer.max_iter=2")
    run_dir, _ = run(tmp_path, board)
    events = EventAccumulator(str(run_dir / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Scalars("val/val_loss")] == [0, 2, 4]
    assert events.Images("loss_curve")[-1].step == 4


def test_every_tracker_has_the_same_switch(tmp_path: Path) -> None:
    off = [f"trackers.{name}.enabled=false" for name in ("console", "jsonl", "tensorboard", "wandb")]
    run_dir, log = run(tmp_path, *off, "job.wandb_mode=offline")
    assert "step 4/4" not in log
    for name in ("metrics.jsonl", "tensorboard", "wandb", "wandb_id.txt"):
        assert not (run_dir / name).exists(), name
    sections = PluginManager.discover().registry.sections()
    tables = [section for section in sections if section.path.startswith("trackers.")]
    assert len(tables) == 4
    assert all(issubclass(table.cls, TrackerConfig) and table.cls().enabled for table in tables)


def test_missing_packages_and_accounts_are_found_before_the_run(tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(
        "import importlib.util as u\nreal = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('wandb', 'tensorboard') else real(name, *a)\n"
    )
    env = {"PYTHONPATH": str(blocked)}
    _, log = run(tmp_path, "job.wandb_mode=offline", "trackers.tensorboard={}", code=2, **env)
    assert "cosmos-core[wandb]" in log
    assert "cosmos-core[tensorboard]" in log
    _, log = run(tmp_path, "job.wandb_mode=online", code=2, HOME=str(tmp_path), WANDB_API_KEY="")
    assert "wandb login" in log
    off = ("job.wandb_mode=offline", "trackers.wandb.enabled=false", "trackers.tensorboard.enabled=false", "--dry-run")
    run(tmp_path, *off, **env)


def test_a_tracker_whose_file_cannot_be_written_says_why_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "cosmos3/sft/hello/metrics.jsonl").mkdir(parents=True)
    _, log = run(tmp_path)
    assert "tracker 'jsonl' failed and is switched off; the run continues: [Errno 21] Is a directory" in log
    assert "Traceback" not in log


def test_what_a_run_that_goes_back_logged_is_taken_back(tmp_path: Path) -> None:
    plan: Any = SimpleNamespace(run_dir=tmp_path, weights=SimpleNamespace(kind="scratch"))
    trackers = TrackerGroup({"board": TensorboardTracker(Tensorboard()), "jsonl": JsonlTracker(Jsonl())})
    trackers.start(plan, 0)
    for step, loss in ((1, 1.0), (2, 2.0), (3, 3.0)):
        trackers.log({"step": step, "loss": loss})
    trackers.rewind(1)
    trackers.log({"step": 2, "loss": 4.0})
    trackers.finish("done")
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path / "metrics.jsonl").steps] == [
        (1, 1.0),
        (2, 4.0),
    ]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 4.0)]


def test_pictures_and_clips_reach_the_board(tmp_path: Path) -> None:
    tracker = TensorboardTracker(Tensorboard())
    tracker.start(SimpleNamespace(run_dir=tmp_path), 0)  # type: ignore[arg-type]
    tracker.log_media(3, media_in(tmp_path))
    tracker.finish("done")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (picture,), (clip,) = events.Images("val/confusion"), events.Images("samples/clip")
    assert (picture.step, picture.width, picture.height) == (3, 40, 30)
    assert picture.encoded_image_string == (tmp_path / "confusion.png").read_bytes()
    animated = Image.open(BytesIO(clip.encoded_image_string))
    assert (animated.format, animated.n_frames, animated.size) == ("GIF", 50, (480, 240))
    assert animated.info["duration"] == 120
    (caption,) = events.Tensors("samples/clip/caption/text_summary")
    assert caption.tensor_proto.string_val == [b"a red square"]


def test_pictures_and_clips_reach_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracker = WandbTracker(Wandb())
    tracker.start(plan_of(tmp_path, "offline"), 0)
    tracker.log_media(0, media_in(tmp_path))
    tracker.finish("done")
    (files,) = tmp_path.glob("wandb/offline-run-*/files/media")
    assert [path.suffix for path in sorted(files.rglob("*.*"))] == [".png", ".mp4"]
    off = WandbTracker(Wandb())
    off.start(plan_of(tmp_path, "disabled"), 0)
    off.log_media(1, media_in(tmp_path))


def plan_of(run_dir: Path, mode: str) -> Any:
    config = resolve("hello", [f"job.wandb_mode={mode}"], plugins=PluginManager.discover()).config
    return SimpleNamespace(run_dir=run_dir, config=config)


def media_in(folder: Path) -> list[Media]:
    """A picture, and a clip of 100 frames with black and red ones in turn."""
    Image.new("RGB", (40, 30), "teal").save(folder / "confusion.png")
    frames = np.zeros((100, 320, 640, 3), np.uint8)
    frames[::4, ..., 0] = 255
    write_mp4(folder / "clip.mp4", frames, 100 / 6)
    return [
        Media("val/confusion", folder / "confusion.png"),
        Media("samples/clip", folder / "clip.mp4", "a red square"),
    ]


def test_answers_and_media_reach_a_tracker_that_takes_them_beside_one_that_does_not(tmp_path: Path) -> None:
    seen: list[tuple[int, Any]] = []

    class Showing(Tracker):
        def log_answers(self, step: int, answers: Sequence[Answer]) -> None:
            seen.append((step, answers))

        def log_media(self, step: int, media: Sequence[Media]) -> None:
            seen.append((step, media))

    answers, media = [Answer("a", "said", "true")], [Media("loss_curve", tmp_path / "loss_curve.png")]
    trackers = TrackerGroup({"plain": Tracker(None), "showing": Showing(None)})
    trackers.log_answers(1, [])
    trackers.log_media(1, [])
    trackers.log_answers(2, answers)
    trackers.log_media(3, media)
    assert seen == [(2, answers), (3, media)]


def test_a_class_that_derives_from_nothing_gets_the_methods_that_it_lacks() -> None:
    class Older:
        def __init__(self, config: Any) -> None:
            self.outcome = ""

        def finish(self, outcome: str) -> None:
            self.outcome = outcome

    older = tracker_class(Older)(None)
    older.rewind(3)
    older.finish("done")
    assert vars(older) == {"outcome": "done"}
    assert tracker_class(Tracker) is Tracker


@pytest.mark.parametrize("broken", ["start", "log", "finish"])
def test_a_tracker_that_failed_once_is_never_called_again(broken: str) -> None:
    calls: dict[str, list[str]] = {"bad": [], "good": []}

    class Recording(Tracker):
        def __init__(self, name: str, fails_in: str = "") -> None:
            self.name, self.fails_in = name, fails_in

        def called(self, event: str) -> None:
            calls[self.name].append(event)
            if event == self.fails_in:
                raise OSError("disk full")

        def start(self, plan: object, step: int) -> None:
            self.called("start")

        def log(self, row: dict) -> None:
            self.called("log")

        def finish(self, outcome: str) -> None:
            self.called("finish")

    trackers = TrackerGroup({"bad": Recording("bad", broken), "good": Recording("good")})
    trackers.start(None, 0)  # type: ignore[arg-type]
    for step in range(2):
        trackers.log({"step": step})
    trackers.finish("done")
    trackers.finish("done")
    events = ["start", "log", "log", "finish", "finish"]
    assert calls == {"bad": events[: events.index(broken) + 1], "good": events}


def test_records_that_the_disk_does_not_take_wait_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes half of the second record, then nothing, then everything."""

    class Disk:
        def __init__(self) -> None:
            self.file, self.answers = (tmp_path / "metrics.jsonl").open("wb", buffering=0), [100, 10, 0, 0, 100]

        def write(self, data: bytes) -> int:
            count = self.answers.pop(0) if self.answers else 1000
            if count == 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data[:count])

        def close(self) -> None:
            self.file.close()

    tracker = JsonlTracker(Jsonl())
    monkeypatch.setattr(tracker, "_file", Disk())
    with logged("cosmos_core.builtin") as lines:
        for step in range(1, 6):
            tracker.log({"step": step, "loss": 0.5})
        tracker.finish("done")
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records.steps] == [1, 2, 3, 4, 5]
    assert records.damaged == 0
    assert lines == ["metrics.jsonl cannot be written (No space left on device); its records wait until it can"]


def test_a_resumed_run_keeps_records_alone_of_a_damaged_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n[1]\n"x"\n{"step": "2"}\n\xff\xfe\n{"step": 1e400}\n' + b"[" * 100_000 + b'\n{"ste')
    assert len(read_metrics(path).steps) == 1
    plan: Any = SimpleNamespace(run_dir=tmp_path, weights=SimpleNamespace(kind="resume"))
    tracker = JsonlTracker(Jsonl())
    tracker.start(plan, 3)
    tracker.finish("done")
    assert path.read_text() == '{"step": 1}\n'
