"""An interrupted `cosmos data prepare folder` goes on where it was; the result is that of an uninterrupted one."""

from __future__ import annotations

import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest

from cosmos_core.data import UnreadableSample
from cosmos_core.errors import UserError
from cosmos_data_bridge.folder import writing
from cosmos_data_bridge.folder.measure import Facts, decoded_facts
from tests.folder_clips import captions_of, prepare_here, small_video

NAMES = ("a", "b", "c", "d")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Four good clips and one that cannot be used."""
    root = tmp_path / "clips"
    root.mkdir()
    video = small_video(tmp_path)
    for name in (*NAMES, "bad"):
        (root / f"{name}.mp4").write_bytes(video if name in NAMES else b"no video")
        (root / f"{name}.txt").write_text(f"clip {name}")
    return root


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []

    def counted(path: Path) -> Facts:
        names.append(path.stem)
        return decoded_facts(path)

    monkeypatch.setattr(writing, "decoded_facts", counted)
    return names


def interrupt(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, *, copy: bool, at: str) -> None:
    """Prepare, and be stopped when the first file that is called `at` or later is measured."""

    def measure(path: Path) -> Facts:
        if path.stem >= at:
            raise KeyboardInterrupt
        return decoded_facts(path)

    with monkeypatch.context() as patched:
        patched.setattr(writing, "decoded_facts", measure)
        patched.setattr("cosmos_data_bridge.folder.measure.cores", lambda: 1)
        with pytest.raises(KeyboardInterrupt):
            prepare_here(source, out, copy=copy)
    assert not out.exists()


def content(out: Path) -> dict[str, str]:
    """Digests of all files by path, those of `out` itself without its name."""

    def digest(text: bytes) -> str:
        named = text.replace(str(out).encode(), b"OUT").replace(f'\nname = "{out.name}"\n'.encode(), b"")
        return sha256(named).hexdigest()

    return {str(path.relative_to(out)): digest(path.read_bytes()) for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("copy", [False, True])
def test_what_was_measured_is_not_measured_again_and_the_result_is_the_same(
    clips: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    out = tmp_path / "out"
    interrupt(monkeypatch, clips, out, copy=copy, at="c")
    told = prepare_here(clips, out, copy=copy)
    assert sorted(measured) == ["c", "d"]
    assert "going on after an interruption: 3 files measured already" in told
    assert any("left out: 1 x not a video" in line for line in told)
    prepare_here(clips, tmp_path / "whole", copy=copy)
    assert content(out) == content(tmp_path / "whole")
    assert not list(tmp_path.glob(".out*"))


def test_a_file_that_changed_meanwhile_is_measured_again_and_a_changed_caption_is_taken(
    clips: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupt(monkeypatch, clips, out, copy=False, at="d")
    os.utime(clips / "a.mp4", ns=(1, 1))
    (clips / "b.txt").write_text("another caption")
    (clips / "bad.mp4").write_bytes((clips / "a.mp4").read_bytes())
    prepare_here(clips, out)
    assert sorted(measured) == ["a", "bad", "d"]
    assert captions_of(out)["b"] == "another caption"
    assert captions_of(out).keys() == {*NAMES, "bad"}


def test_what_was_unpacked_is_kept_and_what_another_attempt_left_is_removed(
    clips: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tar, out = tmp_path / "shard.tar", tmp_path / "out"
    with tarfile.open(tar, "w") as archive:
        for path in sorted(clips.iterdir()):
            archive.add(path, path.name)
    interrupt(monkeypatch, tar, out, copy=True, at="c")
    unpacked = tmp_path / ".out.partial/media/shard"
    (unpacked / "d.mp4").write_bytes(b"cut short")
    prepare_here(tar, out, copy=True)
    assert sorted(measured) == ["c", "d"]
    prepare_here(tar, tmp_path / "whole", copy=True)
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in out.rglob("*.mp4")) == [f"{name}.mp4" for name in NAMES]
    interrupt(monkeypatch, tar, tmp_path / "later", copy=True, at="c")
    prepare_here(clips, tmp_path / "later")
    assert not (tmp_path / "later/media").exists()


def test_a_line_of_the_journal_that_was_cut_off_is_measured_again(
    clips: Path, tmp_path: Path, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    interrupt(monkeypatch, clips, out, copy=False, at="d")
    journal = tmp_path / ".out.partial/measured.jsonl"
    journal.write_bytes(journal.read_bytes()[:-9])
    prepare_here(clips, out)
    assert sorted(measured) == ["c", "d"]


def test_a_file_that_goes_away_while_others_are_measured_is_left_out(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(path: Path) -> Facts:
        if path.stem != "a":
            raise UnreadableSample(str(path), "stand-in")
        (clips / "b.mp4").unlink(missing_ok=True)
        return decoded_facts(path)

    monkeypatch.setattr(writing, "decoded_facts", measure)
    monkeypatch.setattr("cosmos_data_bridge.folder.measure.cores", lambda: 1)
    told = prepare_here(clips, tmp_path / "out")
    assert f"left out: 1 x file is missing, e.g. {clips / 'b.mp4'}" in told


def test_a_second_command_with_the_same_output_is_refused_and_the_first_one_ends_well(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = []

    def measure(path: Path) -> Facts:
        if not refusals:
            refusals.append("begun")
            with pytest.raises(UserError, match="another command"):
                prepare_here(clips, tmp_path / "out")
        return decoded_facts(path)

    monkeypatch.setattr(writing, "decoded_facts", measure)
    prepare_here(clips, tmp_path / "out")
    assert refusals
    assert captions_of(tmp_path / "out") == {name: f"clip {name}" for name in NAMES}
