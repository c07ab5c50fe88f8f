"""`cosmos data prepare bridge`: the BridgeData2 layout, deterministic, complete or not there."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from cosmos_data_bridge.config import BridgeConfig
from cosmos_data_bridge.dataset import BridgeSource
from cosmos_data_bridge.synthetic import COLORS, attribute_sets, attributes_of, dense_caption, structured_caption
from cosmos_data_bridge.writing import split_attributes
from tests.acceptance.judge import judge
from tests.command import cosmos, module

SMALL = ("--synthetic", "12", "--val", "4")


def prepare(root: Path, *extra: str, code: int = 0) -> str:
    done = cosmos("data", "prepare", "bridge", *SMALL, "-o", str(root), *extra, code=code)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bridge") / "data"
    prepare(folder)
    return folder


def records(root: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (root / split / "video_dataset_file.jsonl").read_text().splitlines()]


def fingerprint(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_layout_is_that_of_bridgedata2(root: Path) -> None:
    assert len(records(root, "train")) == 12
    assert len(records(root, "val")) == 4
    assert {path.name for path in (root / "train").iterdir()} == {"video_dataset_file.jsonl", "videos"}
    for record in records(root, "val"):
        uuid = record["uuid"]
        for path in (
            f"videos/{uuid}.mp4",
            f"videos_5frames/{uuid}.mp4",
            f"images/{uuid}.png",
            f"captions/{uuid}/caption.json",
            f"inference_prompt/{uuid}.json",
            f"inference_prompt_i2v/{uuid}.json",
            f"inference_prompt_v2v/{uuid}.json",
        ):
            assert (root / "val" / path).is_file(), path
        prompt = json.loads((root / f"val/inference_prompt_v2v/{uuid}.json").read_text())
        assert (root / "val/inference_prompt_v2v" / prompt["vision_path"]).resolve().is_file()
        assert prompt["prompt"] == json.dumps(record["t2w_windows"][0]["caption_json"], ensure_ascii=False)


def test_records_have_every_field_of_the_format(root: Path) -> None:
    record = records(root, "train")[0]
    assert record["uuid"] == "episode_000000_clip000"
    assert (record["width"], record["height"], record["nb_frames"], record["framerate"]) == (64, 64, 17, 5.0)
    assert record["duration"] == pytest.approx(3.4)
    (window,) = record["t2w_windows"]
    assert (window["start_frame"], window["end_frame"], window["temporal_interval"]) == (0, 16, 1)
    assert attributes_of(json.dumps(window["caption_json"])).color in window["caption"]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(root: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "again")
    prepare(tmp_path / "other", "--seed", "1")
    assert fingerprint(tmp_path / "again") == fingerprint(root)
    name = "train/videos/episode_000000_clip000.mp4"
    assert fingerprint(tmp_path / "other")[name] != fingerprint(root)[name]


def test_preparing_again_changes_nothing_and_other_content_is_never_overwritten(root: Path, tmp_path: Path) -> None:
    before = fingerprint(root)
    assert "already there" in prepare(root)
    assert "holds something else: it differs in seed;" in prepare(root, "--seed", "2", code=2)
    assert fingerprint(root) == before
    (tmp_path / "mine").mkdir()
    assert "holds something else" in prepare(tmp_path / "mine", code=2)
    assert not list((tmp_path / "mine").iterdir())


def test_leftovers_of_an_interrupted_writing_are_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / ".data.partial/train").mkdir(parents=True)
    prepare(tmp_path / "data")
    assert fingerprint(tmp_path / "data") == fingerprint(root)
    assert not (tmp_path / ".data.partial").exists()


def test_help_has_an_example() -> None:
    assert "cosmos data prepare bridge --synthetic 768" in cosmos("data", "prepare", "bridge", "--help").stdout
    assert "bridge" in cosmos("data", "prepare", "--help").stdout


def test_held_out_combinations_never_train() -> None:
    train, held = split_attributes()
    assert len(train) == 248
    assert len(held) == 40
    assert not set(train) & set(held)
    counts = Counter(attributes.color for attributes in held)
    assert max(counts.values()) <= 7
    assert counts.keys() == set(COLORS)


def test_captions_state_every_attribute_and_can_be_read_back() -> None:
    assert len(set(attribute_sets())) == 288
    for attributes in attribute_sets():
        assert attributes_of(json.dumps(structured_caption(attributes))) == attributes
        words = (attributes.color, attributes.shape, attributes.direction, attributes.background)
        assert all(word in dense_caption(attributes) for word in words)
    with pytest.raises(ValueError, match="not a caption"):
        attributes_of("a cat")


def test_what_is_decoded_shows_what_the_caption_says(root: Path) -> None:
    config = BridgeConfig(type="bridge", path=str(root), resolution="64", min_window_frames=17, cfg_dropout_rate=0.0)
    source = BridgeSource(config)
    for index in range(len(source)):
        sample = source.get(index, np.random.default_rng(0))
        assert sample.video.shape == (3, 17, 64, 64)
        verdict = judge(sample.video.permute(1, 2, 3, 0).numpy())
        attributes = attributes_of(sample.caption)
        assert (verdict.colour, verdict.direction) == (attributes.color, attributes.direction)


def test_the_bytes_do_not_depend_on_what_the_memory_held_before(root: Path, tmp_path: Path) -> None:
    for filling in ("85", "255"):
        place = ("-o", str(tmp_path / filling))
        module("cosmos_core", "data", "prepare", "bridge", *SMALL, *place, env={"MALLOC_PERTURB_": filling})
        assert fingerprint(tmp_path / filling) == fingerprint(root)
