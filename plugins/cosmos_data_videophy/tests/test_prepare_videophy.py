"""`cosmos data prepare videophy2`: drawn clips, and a local copy."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np

from cosmos_core.data.video import decode_frames, write_mp4
from cosmos_data_videophy.config import VideophyConfig
from cosmos_data_videophy.dataset import VideophySource
from cosmos_data_videophy.question import RUBRIC
from cosmos_data_videophy.synthetic import FRAMES, draw
from tests.command import cosmos

COLUMNS = "video_url,caption,upsampled_caption,pc,sa,joint\n"


def prepare(root: Path, *options: str, code: int = 0) -> str:
    done = cosmos("data", "prepare", "videophy2", "-o", str(root), *options, code=code)
    return done.stdout + done.stderr


def clip(seed: int) -> np.ndarray:
    return draw(1 + seed % 5, np.random.default_rng(seed)).pixels


def table(folder: Path, rows: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_text(COLUMNS + "".join(f"{row}\n" for row in rows))
    return folder


def test_drawn_clips_are_the_same_for_a_seed_and_balanced(tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        prepare(tmp_path / name, "--synthetic", "20", "--val", "10", "--seed", seed)
    first, second, third = (
        {
            str(path.relative_to(tmp_path / name)): sha256(path.read_bytes()).hexdigest()
            for path in files(tmp_path / name)
        }
        for name in "abc"
    )
    assert first == second
    assert first != third
    source = VideophySource(VideophyConfig(type="videophy2", path=str(tmp_path / "a")))
    chats = [source.get(index, np.random.default_rng(0)) for index in range(20)]
    assert Counter(str(chat.messages[1].content[0]) for chat in chats) == dict.fromkeys("12345", 4)
    assert "already there" in prepare(tmp_path / "a", "--synthetic", "20", "--val", "10")
    assert "something else" in prepare(tmp_path / "a", "--synthetic", "25", "--val", "10", code=2)


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def test_neither_end_of_a_drawn_path_tells_the_grade() -> None:
    """Ball positions of the first and last frame have the same spread in every grade."""
    means = []
    for grade in range(1, 6):
        heights = []
        for seed in range(60):
            bright = draw(grade, np.random.default_rng(seed)).pixels.astype(float).mean(-1) > 180
            heights.append([np.nonzero(bright[frame])[0].mean() for frame in (0, FRAMES - 1)])
        means.append(np.mean(heights, axis=0))
    assert np.ptp(np.array(means), axis=0).max() < 6


def test_a_local_copy_needs_no_network(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy", ["http://gone.invalid/a/clip.mp4,falls,a ball falls,4,3,0"])
    write_mp4(copy / "clip.mp4", clip(0), 2)
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(copy), "--include-caption")
    assert "1 of 1 rows, 0 failed" in said
    (entry,) = json.loads((tmp_path / "out/videophy2_train/meta.json").read_text())
    assert entry == {
        "id": "conversation_0001",
        "media": "media/video_0001.mp4",
        "conversation": "text/conversation_0001.json",
    }
    question, answer = json.loads((tmp_path / "out/videophy2_train" / entry["conversation"]).read_text())[
        "conversations"
    ]
    assert question["content"][0] == {"type": "video", "video": "video_0"}
    assert question["content"][1]["text"] == f"{RUBRIC}\nCaption: a ball falls"
    assert answer["content"] == [{"type": "text", "text": "4"}]


def test_the_test_split_becomes_the_validation_folder(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy/videophy2_test", ["clip.mp4,,,2,1,1"])
    write_mp4(copy / "clip.mp4", clip(1), 2)
    prepare(tmp_path / "out", "--split", "test", "--source", str(tmp_path / "copy"), "--score-field", "joint")
    text = (tmp_path / "out/videophy2_val/text/conversation_0001.json").read_text()
    assert json.loads(text)["conversations"][1]["content"][0]["text"] == "yes"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_question_that_is_not_text_is_named(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy", ["clip.mp4,,,2,1,1"])
    (tmp_path / "question").write_bytes(b"\xff\xfe\x00")
    said = prepare(tmp_path / "out", "--source", str(copy), "--prompt-file", str(tmp_path / "question"), code=2)
    assert f"{tmp_path / 'question'}" in said
    assert "Traceback" not in said


def test_a_folder_without_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(tmp_path / "empty"), code=2)
    assert "videophy2_training.csv" in said


def test_drawn_frames_survive_the_codec(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", clip(4), 2)
    assert np.abs(decode_frames(tmp_path / "clip.mp4", range(FRAMES)).astype(int) - clip(4)).mean() < 3


def test_a_local_copy_that_has_changed_is_copied_again(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy", ["clip.mp4,,,4,3,0"])
    target = tmp_path / "out/videophy2_train/media/video_0001.mp4"
    for seed in (0, 1):
        write_mp4(copy / "clip.mp4", clip(seed), 2)
        prepare(tmp_path / "out", "--split", "train", "--source", str(copy))
        assert target.read_bytes() == (copy / "clip.mp4").read_bytes()
    changed = target.stat().st_mtime_ns
    prepare(tmp_path / "out", "--split", "train", "--source", str(copy))
    assert target.stat().st_mtime_ns == changed


def test_a_copy_whose_name_ends_several_addresses_belongs_to_none(tmp_path: Path) -> None:
    """Each video would get the score of the others."""
    same = ["http://a.invalid/one/clip.mp4?token=1,,,4,3,0", "http://a.invalid/one/clip.mp4,,,4,3,0"]
    copy = table(tmp_path / "copy", same)
    write_mp4(copy / "clip.mp4", clip(0), 2)
    options = ("--split", "train", "--source", str(copy), "--max-failures", "0.9")
    assert "2 of 2 rows, 0 failed" in prepare(tmp_path / "same", *options)
    table(tmp_path / "copy", [*same, "own.mp4,,,5,3,0", "http://a.invalid/two/clip.mp4,,,1,3,0", "http://[,,,1,3,0"])
    write_mp4(copy / "own.mp4", clip(1), 2)
    assert "1 of 5 rows, 4 failed" in prepare(tmp_path / "out", *options)
    for line in lines(tmp_path / "out/videophy2_train/failures.jsonl")[:-1]:
        assert "'clip.mp4' ends several addresses of the table" in json.loads(line)["reason"]
    assert "ends several addresses" in prepare(tmp_path / "first", *options, "--limit", "1", code=2)


def test_a_joint_score_is_0_or_1(tmp_path: Path) -> None:
    copy = table(tmp_path / "copy", [f"clip.mp4,,,4,3,{score}" for score in ("0", "1.0", "2", "-1", "0.5", "inf")])
    write_mp4(copy / "clip.mp4", clip(0), 2)
    options = ("--split", "train", "--source", str(copy), "--score-field", "joint", "--max-failures", "0.9")
    assert "2 of 6 rows, 4 failed" in prepare(tmp_path / "out", *options)
    reasons = [json.loads(line)["reason"] for line in lines(tmp_path / "out/videophy2_train/failures.jsonl")]
    assert reasons == [f"the score {score} is not 0 or 1" for score in ("2", "-1", "0.5", "inf")]


def test_a_damaged_copy_is_a_failed_row(tmp_path: Path) -> None:
    """FFmpeg calls this damage the end of the file, which the command line once took for an interruption."""
    copy = table(tmp_path / "copy", ["whole.mp4,,,4,3,0", "damaged.mp4,,,4,3,0"])
    write_mp4(copy / "whole.mp4", clip(0), 2)
    whole = (copy / "whole.mp4").read_bytes()
    entry_size = whole.index(b"stsd") + 12
    (copy / "damaged.mp4").write_bytes(whole[:entry_size] + b"\x7f\xff\xff\xff" + whole[entry_size + 4 :])
    said = prepare(tmp_path / "out", "--split", "train", "--source", str(copy), "--max-failures", "0.5")
    assert "1 of 2 rows, 1 failed" in said
    (failure,) = map(json.loads, lines(tmp_path / "out/videophy2_train/failures.jsonl"))
    assert failure["row"] == 2
    assert "not a video" in failure["reason"]


def test_an_output_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """The kernel's own folder, in which not even root makes one."""
    source = table(tmp_path / "source", ["a.mp4,x,x,3,3,1"])
    said = prepare(Path("/proc/x"), "--source", str(source), "--split", "train", code=2)
    assert "the output cannot be written; nothing was written\n  /proc/x/videophy2_train  No such file" in said
