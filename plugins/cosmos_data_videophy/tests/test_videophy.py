"""VideoPhy-2 in its canonical layout, on real mp4 files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cosmos_core.data import Clip, UnreadableSample
from cosmos_core.errors import UserError
from cosmos_core.testing import check_dataset
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource, chosen_frames
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
    clip, question = chat.turns[0].parts
    assert isinstance(clip, Clip)
    assert clip.pixels.shape == (3, 8, 64, 64)
    assert clip.seconds == tuple(number / 2 for number in range(8))
    assert question == "Rate the physics from 1 to 5."
    assert chat.turns[1].parts == ("2",)
    check_dataset(source.config)


def test_validation_is_the_other_folder(root: Path) -> None:
    assert len(source_of(root, split="val")) == 2


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [
        (10, 2.0, list(range(10))),
        (60, 30.0, [0, 15, 30, 45]),
        (25, 24.0, [0, 12, 24]),
        (7, 1.0, list(range(7))),
    ],
)
def test_frames_are_thinned_to_two_a_second(count: int, fps: float, expected: list[int]) -> None:
    assert chosen_frames(count, fps, 2.0, 32) == expected


def test_a_long_video_gives_evenly_spread_frames_with_their_true_times(root: Path) -> None:
    wanted = chosen_frames(3000, 30.0, 2.0, 32)
    assert len(wanted) == 32
    assert (wanted[0], wanted[-1]) == (0, 2985)
    assert max(np.diff(wanted)) - min(np.diff(wanted)) <= 15
    clip = source_of(root, max_frames=3).get(0, np.random.default_rng(0)).turns[0].parts[0]
    assert isinstance(clip, Clip)
    assert clip.seconds == (0.0, 2.0, 3.5)


@pytest.mark.parametrize("part", ["media/video_0001.mp4", "text/conversation_0001.json"])
@pytest.mark.parametrize("damage", ["missing", "rubbish"])
def test_damage_is_named(root: Path, part: str, damage: str) -> None:
    path = root / "videophy2_train" / part
    path.unlink() if damage == "missing" else path.write_text("rubbish")
    with pytest.raises(UnreadableSample) as refused:
        source_of(root).get(0, np.random.default_rng(0))
    assert path.name in refused.value.where


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
