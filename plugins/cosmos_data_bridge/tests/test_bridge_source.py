"""The bridge dataset on real mp4 files: windows, frames, sizes, captions, conditioning, damage."""

from __future__ import annotations

import gzip
import json
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from attrs import evolve

from cosmos_core.data import UnreadableSample
from cosmos_core.data.video import decode, probe, write_mp4
from cosmos_core.errors import UserError
from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.resolution import aspect_bucket, target_size
from cosmos_data_bridge.synthetic import attribute_sets, render, structured_caption

FPS = 10
FRAMES = 40
ROW = {"start_frame": 0, "end_frame": FRAMES - 1, "temporal_interval": 1}


def counted_clip(path: Path, width: int = 96, height: int = 64) -> None:
    """A clip whose every frame tells its number by its brightness."""
    frames = np.empty((FRAMES, height, width, 3), np.uint8)
    frames[:] = (20 + 5 * np.arange(FRAMES))[:, None, None, None]
    write_mp4(path, frames, FPS, crf=4)


def numbers(video: torch.Tensor) -> list[int]:
    """Frame numbers of a decoded counted clip, [3, T, H, W]."""
    return [round((float(frame.float().mean()) - 20) / 5) for frame in video.unbind(1)]


class Dataset:
    """A dataset root under construction."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: list[dict[str, Any]] = []
        (root / "train/videos").mkdir(parents=True)

    def clip(self, uuid: str = "clip0", *, windows: list[dict[str, Any]] | None = None, **fields: Any) -> None:
        path = self.root / f"train/videos/{uuid}.mp4"
        counted_clip(path, fields.get("width", 96), fields.get("height", 64))
        record = {
            "uuid": uuid,
            "vision_path": f"videos/{uuid}.mp4",
            "duration": FRAMES / FPS,
            "width": 96,
            "height": 64,
            "t2w_windows": windows or [{**ROW, "caption": "a cat."}],
        }
        self.records.append({**record, **fields})

    def source(self, **options: Any) -> BridgeSource:
        lines = "".join(json.dumps(record) + "\n" for record in self.records)
        (self.root / "train/video_dataset_file.jsonl").write_text(lines)
        settings = {"resolution": "64", "min_window_frames": 5, "cfg_dropout_rate": 0.0, **options}
        return BridgeSource(BridgeConfig(type="bridge", path=str(self.root), **settings))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "data")


def draw(source: BridgeSource, seed: int = 0, index: int = 0) -> Any:
    return source.get(index, np.random.default_rng(seed))


def test_the_whole_window_is_cut_to_whole_chunks(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "start_frame": 3, "end_frame": 30, "caption": "x"}])
    sample = draw(dataset.source())
    assert sample.video.dtype == torch.uint8
    assert sample.video.shape == (3, 25, 64, 80)
    assert numbers(sample.video) == list(range(3, 28))
    assert sample.fps == FPS
    assert sample.key == "clip0_w0"


def test_the_window_interval_thins_frames_and_frame_rate(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "start_frame": 2, "temporal_interval": 3, "caption": "x"}])
    sample = draw(dataset.source())
    assert numbers(sample.video) == list(range(2, 40, 3))[:13]
    assert sample.fps == pytest.approx(FPS / 3)


@pytest.mark.parametrize(
    ("interval", "place", "expected"),
    [
        ("force_one", "first", list(range(4, 13))),
        ("force_one", "center", list(range(17, 26))),
        ("max_30fps", "first", list(range(4, 13))),
        ("entire_chunk", "first", list(range(4, 37, 4))),
    ],
)
def test_a_fixed_number_of_frames_is_placed_as_asked(
    dataset: Dataset, interval: str, place: str, expected: list[int]
) -> None:
    dataset.clip(windows=[{**ROW, "start_frame": 4, "end_frame": 39, "caption": "x"}])
    source = dataset.source(num_video_frames=9, temporal_interval_mode=interval, frame_selection_mode=place)
    assert numbers(draw(source).video) == expected


def test_random_placement_stays_inside_and_moves(dataset: Dataset) -> None:
    dataset.clip()
    source = dataset.source(num_video_frames=9, temporal_interval_mode="force_one", frame_selection_mode="random")
    starts = {numbers(draw(source, seed).video)[0] for seed in range(12)}
    assert len(starts) > 3
    assert min(starts) >= 0
    assert max(starts) <= 31


def test_a_window_too_short_for_the_frames_is_unreadable(dataset: Dataset) -> None:
    dataset.clip()
    with pytest.raises(UnreadableSample, match="too short"):
        draw(dataset.source(num_video_frames=45))


@pytest.mark.parametrize(
    ("size", "bucket"),
    [((60, 100), "9,16"), ((84, 100), "3,4"), ((100, 100), "1,1"), ((150, 100), "4,3"), ((160, 90), "16,9")],
)
def test_aspect_buckets(size: tuple[int, int], bucket: str) -> None:
    assert aspect_bucket(*size) == bucket


def test_tier_256_is_a_label_not_a_size() -> None:
    assert target_size("256", 1920, 1080) == (320, 192)
    assert target_size("256", 256, 256) == (256, 256)
    assert target_size("720", 720, 1280) == (720, 1280)


def test_frames_cover_the_target_and_are_cropped_at_the_centre(tmp_path: Path) -> None:
    frames = np.zeros((5, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 200
    write_mp4(tmp_path / "c.mp4", frames, 5, crf=4)
    found = decode(tmp_path / "c.mp4", 0, 4, 1, target=(64, 64))
    assert found.shape == (5, 64, 64, 3)
    assert found[:, :, 2:-2].min() > 190
    assert probe(tmp_path / "c.mp4").frames == 5


def test_a_structured_caption_is_used_verbatim(dataset: Dataset) -> None:
    caption = {"subjects": [{"description": "größe"}], "fps": 5}
    dataset.clip(windows=[{**ROW, "caption_json": caption, "caption": "plain"}])
    assert draw(dataset.source()).caption == '{"subjects": [{"description": "größe"}], "fps": 5}'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"caption_json": " as it is ", "caption": "no"}, "as it is"),
        ({"qwen3_32b_rewrite-dense": "dense", "caption": "no"}, "dense."),
        ({"caption": " a cat.. "}, "a cat."),
        ({"qwen3_235b_short": "short"}, "short."),
        ({"caption": {"a": 1}}, '{"a": 1}'),
    ],
)
def test_the_caption_is_chosen_in_order_and_ends_in_one_full_stop(
    dataset: Dataset, fields: dict[str, Any], expected: str
) -> None:
    dataset.clip(windows=[{**ROW, **fields}])
    plain = {"append_duration_fps_timestamps": False, "append_resolution_info": False}
    assert draw(dataset.source(**plain)).caption == expected


def test_style_captions_are_drawn_with_their_weights(dataset: Dataset) -> None:
    styles = {f"qwen3_32b_{style}": style for style in ("short", "descriptive", "dense", "temporal")}
    dataset.clip(windows=[{**ROW, **styles}])
    source = dataset.source(append_duration_fps_timestamps=False, append_resolution_info=False, cache_decoded=True)
    drawn = Counter(draw(source, seed).caption for seed in range(1500))
    shares = {caption: count / 1500 for caption, count in drawn.items()}
    assert shares == pytest.approx({"short.": 0.1, "descriptive.": 0.2, "dense.": 0.7}, abs=0.04)


def test_plain_captions_end_with_suffix_duration_and_size(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "end_frame": 24, "caption": "a cat"}])
    assert draw(dataset.source(caption_suffix="Nice.")).caption == (
        "a cat. Nice. The video is 2.5 seconds long and is of 10 FPS. This video is of 64x80 resolution."
    )


def test_dropout_empties_captions_or_keeps_their_metadata(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "caption": "a cat"}])
    assert draw(dataset.source(cfg_dropout_rate=1.0)).caption == ""
    assert dataset.source(cfg_dropout_rate=1.0).dimensions(0).text == 0, "a plan has more clips in a pack then"
    assert dataset.source().dimensions(0).text > 0
    kept = draw(dataset.source(cfg_dropout_rate=1.0, cfg_dropout_keep_metadata=True)).caption
    assert kept == "The video is 3.7 seconds long and is of 10 FPS. This video is of 64x80 resolution."
    source = dataset.source(cfg_dropout_rate=0.3, cache_decoded=True)
    empty = sum(draw(source, seed).caption == "" for seed in range(600))
    assert empty / 600 == pytest.approx(0.3, abs=0.06)


def test_a_window_without_a_caption_is_unreadable(dataset: Dataset) -> None:
    dataset.clip(windows=[dict(ROW)])
    with pytest.raises(UnreadableSample, match="no caption"):
        draw(dataset.source())


def test_conditioning_frames_are_mixed_as_configured(dataset: Dataset) -> None:
    dataset.clip()
    source = dataset.source(cache_decoded=True)
    drawn = Counter(draw(source, seed).condition_frames for seed in range(1500))
    shares = {frames: count / 1500 for frames, count in drawn.items()}
    assert shares == pytest.approx({0: 0.7, 1: 0.2, 2: 0.1}, abs=0.04)
    assert draw(dataset.source(conditioning_config={"2": 5.0})).condition_frames == 2


def test_one_random_window_a_visit_or_every_window_a_sample(dataset: Dataset) -> None:
    windows = [{**ROW, "start_frame": start, "end_frame": start + 8, "caption": "x"} for start in (0, 10, 20)]
    dataset.clip(windows=windows)
    source = dataset.source()
    assert len(source) == 1
    assert {draw(source, seed).key for seed in range(20)} == {"clip0_w0", "clip0_w1", "clip0_w2"}
    split = dataset.source(sample_by_window=True)
    assert [draw(split, 0, index).key for index in range(len(split))] == ["clip0_w0", "clip0_w1", "clip0_w2"]


def test_the_same_draw_gives_the_same_sample(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "start_frame": start, "caption": str(start)} for start in range(4)])
    one, other = (draw(dataset.source(cfg_dropout_rate=0.5), 7) for _ in range(2))
    assert (one.key, one.caption, one.condition_frames) == (other.key, other.caption, other.condition_frames)
    assert torch.equal(one.video, other.video)


def test_clips_come_in_the_order_of_their_hashed_names(dataset: Dataset) -> None:
    names = [f"clip{index}" for index in range(6)]
    for name in names:
        dataset.clip(name)
    source = dataset.source()
    found = [draw(source, 0, index).key.removesuffix("_w0") for index in range(6)]
    assert found == sorted(names, key=lambda name: sha256(name.encode()).digest())


def test_a_compressed_index_is_read(dataset: Dataset) -> None:
    dataset.clip()
    plain = dataset.source()
    path = dataset.root / "train/video_dataset_file.jsonl"
    with gzip.open(path.with_suffix(".jsonl.gz"), "wb") as file:
        file.write(path.read_bytes())
    config = evolve(plain.config, jsonl="video_dataset_file.jsonl.gz")
    assert draw(BridgeSource(config)).caption == draw(plain).caption


@pytest.mark.parametrize("damage", [slice(0, -9), slice(9, None)], ids=["cut", "no header"])
def test_a_damaged_compressed_index_is_one_error(dataset: Dataset, damage: slice) -> None:
    dataset.clip()
    path = dataset.root / "train/video_dataset_file.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"uuid": 1}\n' * 9)[damage])
    with pytest.raises(UserError, match="cannot be read"):
        dataset.source(jsonl=path.name)


def test_long_small_and_short_clips_are_dropped_and_counted_when_nothing_is_left(dataset: Dataset) -> None:
    dataset.clip("long", duration=70.0)
    dataset.clip("small", width=48, height=32)
    dataset.clip("short", windows=[{**ROW, "end_frame": 2, "caption": "x"}])
    with pytest.raises(UserError) as refused:
        dataset.source(min_short_edge=40)
    reasons = " ".join(problem.message for problem in refused.value.problems)
    assert "1 x longer than 61 s" in reasons
    assert "short edge under 40" in reasons
    assert "at least 5 frames" in reasons
    dataset.clip("good")
    assert len(dataset.source(min_short_edge=40)) == 1


@pytest.mark.parametrize("path", ["../outside.mp4", "../../outside.mp4", "/etc/hostname", "s3://bucket/a.mp4"])
def test_a_path_that_leaves_the_dataset_is_refused_with_its_line(dataset: Dataset, path: str) -> None:
    dataset.clip("good")
    dataset.clip("bad", vision_path=path)
    if path == "../outside.mp4":
        path = dataset.records[1]["vision_path"] = "../../outside.mp4"
    with pytest.raises(UserError) as refused:
        dataset.source()
    (problem,) = refused.value.problems
    assert problem.line == 2
    assert path in problem.message


def test_a_link_out_of_the_dataset_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    dataset.clip("good")
    shutil.move(dataset.root / "train/videos/good.mp4", tmp_path / "outside.mp4")
    (dataset.root / "train/videos/good.mp4").symlink_to(tmp_path / "outside.mp4")
    with pytest.raises(UserError, match="1 bad line in"):
        dataset.source()
    assert numbers(draw(dataset.source(media_roots=(str(tmp_path),))).video) == list(range(37))
    (tmp_path / "elsewhere").mkdir()
    shutil.move(tmp_path / "outside.mp4", tmp_path / "elsewhere/outside.mp4")
    (tmp_path / "outside.mp4").symlink_to(tmp_path / "elsewhere/outside.mp4")
    (tmp_path / "media").mkdir()
    with pytest.raises(UserError, match="is outside") as refused:
        dataset.source(media_roots=(str(tmp_path / "media"),))
    (problem,) = refused.value.problems
    assert f"leads to {tmp_path}/elsewhere/outside.mp4" in problem.message


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"uuid": 3}', '{"uuid": "a"}', '{"uuid": "a", "t2w_windows": {}}'],
)
def test_a_bad_line_is_named(dataset: Dataset, line: str) -> None:
    dataset.clip("good")
    source = dataset.source()
    index = dataset.root / "train/video_dataset_file.jsonl"
    index.write_text(index.read_text() + line + "\n")
    with pytest.raises(UserError) as refused:
        BridgeSource(source.config)
    assert [problem.line for problem in refused.value.problems] == [2]


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut"])
def test_a_damaged_clip_is_unreadable_and_named(dataset: Dataset, damage: str) -> None:
    dataset.clip("good")
    path = dataset.root / "train/videos/good.mp4"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"not a video" * 99, "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(UnreadableSample) as refused:
        draw(dataset.source())
    assert "good.mp4" in refused.value.where


def test_a_clip_shorter_than_its_record_is_cut_where_it_ends(dataset: Dataset) -> None:
    dataset.clip(windows=[{**ROW, "end_frame": 300, "caption": "x"}])
    assert numbers(draw(dataset.source()).video) == list(range(37))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"conditioning_config": {"-1": 1.0}}, "latent frames"),
        ({"conditioning_config": {"0": 0.0}}, "positive"),
        ({"num_video_frames": 0}, "or -1"),
        ({"resolution": "100"}, "one of"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BridgeConfig(type="bridge", path="x", **options)


def test_h264_keeps_the_colours_of_a_clip(tmp_path: Path) -> None:
    attributes = attribute_sets()[0]
    clip = render(attributes, np.random.default_rng(0), size=64, frames=17)
    write_mp4(tmp_path / "c.mp4", clip, 5)
    found = decode(tmp_path / "c.mp4", 0, 16, 1, target=(64, 64))
    assert np.abs(found.astype(int) - clip).mean() < 8
    assert structured_caption(attributes)["subjects"][0]["description"] == "red circle"


@pytest.mark.parametrize("root", ["absolute", "relative", "link"])
def test_an_absolute_path_inside_the_dataset_is_read_whatever_the_dataset_is_called(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    dataset.clip("good", vision_path=str(dataset.root / "train/videos/good.mp4"))
    config = dataset.source().config
    (tmp_path / "link").symlink_to(dataset.root)
    monkeypatch.chdir(dataset.root.parent)
    called = {"absolute": str(dataset.root), "relative": dataset.root.name, "link": str(tmp_path / "link")}
    source = BridgeSource(evolve(config, path=called[root]))
    assert source.get(0, np.random.default_rng(0)).key.startswith("good")
