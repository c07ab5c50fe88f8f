"""Clips in tars: of other systems, compressed, damaged, with names or links that no file can be made of."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from cosmos_core.errors import UserError
from tests.folder_clips import captions_of, fault, one_clip, prepare_here, small_video, told


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_video(tmp_path_factory.mktemp("video"))


@pytest.fixture
def clips(tmp_path: Path, video: bytes) -> Path:
    return one_clip(tmp_path / "clips", video)


def test_tars_of_other_systems_are_read(clips: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "SHARD.TAR", "w") as archive:
        for path in sorted(clips.iterdir()):
            archive.add(path, f"./deep/{path.name}")
            for _ in range(2):  # Left out, so that it does not matter.
                archive.add(path, f"./deep/._{path.name}")
    prepare_here(tmp_path / "SHARD.TAR", tmp_path / "out", copy=True)
    assert captions_of(tmp_path / "out") == {"SHARD/deep/a": "a cat"}
    (tmp_path / "junk.tar").write_bytes(b"x" * 3000)
    assert "\n" not in fault(tmp_path / "junk.tar", tmp_path / "none", copy=True)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.mp4", "a.txt", "a.mp4/b.mp4", "a.mp4/b.txt"), "a.mp4 is a file and a folder in it; rename one"),
        (("a.mp4/b.mp4", "a.mp4/b.txt", "a.mp4", "a.txt"), "a.mp4 is a file and a folder in it; rename one"),
        (("a.mp4", "a.txt", "b.mp4 -> a.mp4", "b.txt -> a.txt"), "b.mp4 is a link to a.mp4; pack it anew with files"),
    ],
)
def test_what_a_tar_cannot_give_as_a_file_is_refused_by_name(
    clips: Path, tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, _, target in (name.partition(" -> ") for name in names):
            member = archive.gettarinfo(clips / f"a{name[-4:]}", name)
            member.type, member.linkname = (tarfile.LNKTYPE, target) if target else (tarfile.REGTYPE, "")
            archive.addfile(member, (clips / f"a{name[-4:]}").open("rb"))
    assert words in fault(tmp_path / "x.tar", tmp_path / "none", copy=True)


def test_a_tar_that_has_a_name_twice_or_is_compressed_is_refused_for_that(clips: Path, tmp_path: Path) -> None:
    """The caption of the second one would stand beside the clip of the first."""
    for mode in ("w", "w:gz"):
        path = tmp_path / "a.tar"
        with tarfile.open(path, mode) as archive:
            for name in ("a.mp4", "a.txt", "./a.mp4"):
                archive.add(clips / name, name)
        words = "it is compressed; decompress it" if mode == "w:gz" else "a.mp4 is in it twice; pack it anew"
        assert words in fault(path, tmp_path / "none", copy=True)


@pytest.mark.parametrize(("name", "words"), [("x" * 300, "has a name of 304 bytes"), ("a\udcff", "are not UTF-8")])
def test_a_tar_with_a_name_that_no_file_can_have_is_not_told_as_damaged(
    tmp_path: Path, video: bytes, name: str, words: str
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for ending, content in ((".mp4", video), (".txt", b"a cat")):
            member = tarfile.TarInfo(name + ending)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="names that cannot be unpacked") as error:
        prepare_here(tmp_path / "a.tar", tmp_path / "out", copy=True)
    assert words in told(error.value)
    assert "pack it anew" in told(error.value)
