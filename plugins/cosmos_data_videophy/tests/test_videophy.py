"""VideoPhy-2 in its canonical layout, on real mp4 files."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

import cosmos_data_videophy
from cosmos_core.data import UnreadableSample, Video
from cosmos_core.data.chat import frame_numbers
from cosmos_core.data.video import probe
from cosmos_core.errors import UserError
from cosmos_core.plugin import PluginManager
from cosmos_core.testing import check_dataset
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from tests.command import cosmos
from tests.physics import write_physics


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_physics(tmp_path / "videophysics", train=4, val=2)


def source_of(root: Path, **options: object) -> VideophySource:
    return VideophySource(VideophyConfig(type="videophy2", path=str(root), **options))


def test_an_entry_is_a_clip_a_question_and_a_rating(root: Path) -> None:
    source = source_of(root)
    assert len(source) == 4
    chat = source.get(1, np.random.default_rng(0))
    assert chat.key == "conversation_0002"
    clip, question = chat.messages[0].content
    assert isinstance(clip, Video)
    assert clip.pixels.shape == (3, 8, 64, 64)
    assert clip.seconds == tuple(number / 2 for number in range(8))
    assert question == "Rate the physics from 1 to 5."
    assert chat.messages[1].content == ("2",)
    check_dataset(source.config)


def test_validation_is_the_other_folder(root: Path) -> None:
    assert len(source_of(root, split="val")) == 2


def test_a_prepared_folder_and_each_of_its_splits_are_known_data(root: Path) -> None:
    plugins = PluginManager.discover()
    for path, read, validated in (
        ("", "train", "val"),
        ("videophy2_train", "train", "train"),
        ("videophy2_val", "val", "val"),
    ):
        data = plugins.identify_data(root / path)
        assert data is not None
        assert data.dataset == {"type": "videophy2", "path": str(root), "split": read}
        assert data.validation == {"split": validated}
    shutil.rmtree(root / "videophy2_train")
    data = plugins.identify_data(root)
    assert data is not None
    assert data.dataset["split"] == "val"


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [
        (10, 2.0, list(range(10))),
        (60, 30.0, [0, 15, 30, 45]),
        (25, 24.0, [0, 12, 24]),
        (7, 1.0, list(range(7))),
        (2**31 - 1, 1e9, [0, 500_000_000, 1_000_000_000, 1_500_000_000, 2_000_000_000]),
    ],
)
def test_frames_are_thinned_to_two_a_second(count: int, fps: float, expected: list[int]) -> None:
    assert frame_numbers(count, fps, 2.0, 32) == expected


def test_a_long_video_gives_evenly_spread_frames_with_their_true_times(root: Path) -> None:
    wanted = frame_numbers(3000, 30.0, 2.0, 32)
    assert len(wanted) == 32
    assert (wanted[0], wanted[-1]) == (0, 2985)
    assert max(np.diff(wanted)) - min(np.diff(wanted)) <= 15
    clip = source_of(root, max_frames=3).get(0, np.random.default_rng(0)).messages[0].content[0]
    assert isinstance(clip, Video)
    assert clip.seconds == (0.0, 2.0, 3.5)


@pytest.mark.parametrize("part", ["media/video_0001.mp4", "text/conversation_0001.json"])
@pytest.mark.parametrize("damage", ["missing", "rubbish"])
def test_damage_is_named(root: Path, part: str, damage: str) -> None:
    path = root / "videophy2_train" / part
    path.unlink() if damage == "missing" else path.write_text("rubbish")
    with pytest.raises(UnreadableSample) as refused:
        source_of(root).get(0, np.random.default_rng(0))
    assert path.name in refused.value.where


def test_a_header_that_promises_too_many_frames_is_not_believed(root: Path) -> None:
    path = root / "videophy2_train/media/video_0001.mp4"
    whole = path.read_bytes()
    durations = whole.index(b"stts") + 12
    truth = source_of(root).get(0, np.random.default_rng(0)).messages[0].content[0]
    path.write_bytes(whole[:durations] + (2**31 - 1).to_bytes(4, "big") + whole[durations + 4 :])
    clip = source_of(root).get(0, np.random.default_rng(0)).messages[0].content[0]
    assert probe(path).frames == 8
    assert clip.pixels.equal(truth.pixels)


def say(root: Path, number: int, answer: str) -> None:
    path = root / f"videophy2_train/text/conversation_{number:04d}.json"
    dialog = json.loads(path.read_text())
    dialog["conversations"][-1]["content"][0]["text"] = answer
    path.write_text(json.dumps(dialog))


@pytest.mark.parametrize("answer", ["7", "0", "-1", "3.5", "nan", " 10 "])
def test_a_number_that_is_no_rating_is_refused(root: Path, answer: str) -> None:
    say(root, 2, answer)
    with pytest.raises(UnreadableSample, match=f"the rating {answer.strip()} is not 1 to 5") as refused:
        source_of(root).get(1, np.random.default_rng(0))
    assert refused.value.where.endswith("conversation_0002.json")


@pytest.mark.parametrize("answer", ["5", "4.0", "yes", "no", "The ball rises by itself.", "7 of 10 frames are wrong"])
def test_ratings_and_words_are_left_alone(root: Path, answer: str) -> None:
    say(root, 2, answer)
    assert source_of(root).get(1, np.random.default_rng(0)).messages[-1].content == (answer,)


def run_of(folder: Path, steps: int) -> tuple[str, ...]:
    small = ("dataloader_train.max_samples_per_batch=2", "scheduler.cycle_lengths=[20]", "scheduler.warm_up_steps=[0]")
    command = ("run", "videophy2_demo", "--output-root", str(folder), *small)
    return (*command, "trainer.run_validation=false", f"trainer.max_iter={steps}")


def test_ratings_outside_of_the_scale_are_counted_and_end_a_run(root: Path, tmp_path: Path) -> None:
    for number in (1, 3):
        say(root, number, "7")
    said = cosmos(*run_of(tmp_path / "runs", 20), env={"VIDEOPHYSICS_ROOT": str(root)}, code=2).stderr
    assert "2 x the rating 7 is not 1 to 5" in said
    assert "max_bad_sample_fraction" in said


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[]",
        "no json",
        '[{"id": "a"}]',
        json.dumps([{"id": "a", "media": "../../secret.mp4", "conversation": "text/a.json"}]),
    ],
)
def test_a_bad_manifest_is_refused(root: Path, content: str) -> None:
    (root / "videophy2_train/meta.json").write_text(content)
    with pytest.raises(UserError, match="nothing was started"):
        source_of(root)


def test_the_identity_is_that_of_the_manifest_the_conversations_and_the_split(root: Path, tmp_path: Path) -> None:
    source = source_of(root)
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    assert source_of(copy).fingerprint == source.fingerprint
    said = next((copy / "videophy2_train/text").iterdir())
    before = said.read_bytes()
    said.write_bytes(before + b"\n")
    assert source_of(copy).fingerprint != source.fingerprint
    said.write_bytes(before)
    for split in ("train", "val"):
        manifest = copy / f"videophy2_{split}/meta.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text())[:2], indent=2))
    found = {source_of(copy).fingerprint, source_of(copy, split="val").fingerprint, source.fingerprint}
    assert len(found) == 3
    assert all("videophy2_train" in one or "videophy2_val" in one for one in found)


def test_a_run_does_not_resume_on_another_manifest(root: Path, tmp_path: Path) -> None:
    environment = {"VIDEOPHYSICS_ROOT": str(root)}
    cosmos(*run_of(tmp_path / "runs", 1), env=environment)
    assert "resume from" in cosmos(*run_of(tmp_path / "runs", 2), env=environment).stderr
    manifest = root / "videophy2_train/meta.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())[::-1], indent=2))
    said = cosmos(*run_of(tmp_path / "runs", 3), env=environment, code=2).stderr
    assert "dataloader_train.dataset" in said
    assert "4 samples of videophy2_train" in said
    assert "Traceback" not in said


RECIPES = sorted((Path(cosmos_data_videophy.__file__).parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_complete_in_one_file_or_says_which_one_it_packs(path: Path) -> None:
    values = tomllib.loads(path.read_text())
    assert values["job"]["name"] == path.stem
    if "_packed_" in path.stem:
        assert values["extends"] == path.stem.replace("packed", "sft")
        return
    assert not {"extends", "unset"} & values.keys()
    assert {"model", "optimizer", "scheduler", "trainer", "dataloader_train", "dataloader_val"} <= values.keys()


def test_videos_and_conversations_may_lie_in_media_roots(root: Path, tmp_path: Path) -> None:
    split = root / "videophy2_train"
    entries = json.loads((split / "meta.json").read_text())
    shutil.move(split / entries[0]["media"], tmp_path / "a.mp4")
    shutil.move(split / entries[0]["conversation"], tmp_path / "a.json")
    entries[0].update(media=str(tmp_path / "a.mp4"), conversation="../../a.json")
    (split / "meta.json").write_text(json.dumps(entries))
    with pytest.raises(UserError) as refused:
        source_of(root)
    assert f"entry 0: {tmp_path}/a.mp4 leads to {tmp_path}/a.mp4, which is outside" in refused.value.problems[0].message
    chat = source_of(root, media_roots=(str(tmp_path),)).get(0, np.random.default_rng(0))
    assert isinstance(chat.messages[0].content[0], Video)


@pytest.mark.parametrize(("key", "words"), [("a\0", "NUL")], ids=["NUL"])
def test_an_id_that_cannot_be_written_down_is_refused(root: Path, key: str, words: str) -> None:
    manifest = root / "videophy2_train/meta.json"
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps([{**entries[0], "id": key}, {**entries[1], "media": key}]))
    with pytest.raises(UserError) as refused:
        source_of(root)
    assert [words in problem.message for problem in refused.value.problems] == [True, True]
