"""Media may lie in the dataset's folder and in `media_roots`; what leaves all of them is refused in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cosmos_core.hub import OutsidePath, find_media


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A dataset beside another disk, which holds a clip and a link to a third place."""
    for file in ("data/videos/in.mp4", "disk/clips/a.mp4", "third/b.mp4"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    (tmp_path / "data/videos/link.mp4").symlink_to(tmp_path / "disk/clips/a.mp4")
    (tmp_path / "data/clips").symlink_to(tmp_path / "disk/clips")
    (tmp_path / "disk/clips/away.mp4").symlink_to(tmp_path / "third/b.mp4")
    (tmp_path / "data/loop").symlink_to(tmp_path / "data/loop")
    return tmp_path


def find(root: Path, text: str, *media_roots: str) -> Path:
    return find_media(text, root / "data", root / "data", [str(root / folder) for folder in media_roots])


OUTSIDE = {
    "../disk/clips/a.mp4": "data/../disk/clips/a.mp4 leads to",
    "{root}/disk/clips/a.mp4": "disk/clips/a.mp4 leads to",
    "videos/link.mp4": "the link {root}/data/videos/link.mp4 leads to",
    "clips/a.mp4": "the link {root}/data/clips leads to",
}


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_leaves_the_dataset_is_refused_by_the_part_that_leaves_and_the_place_it_leads_to(
    root: Path, text: str
) -> None:
    with pytest.raises(OutsidePath) as refused:
        find(root, text.format(root=root))
    said = str(refused.value)
    assert OUTSIDE[text].format(root=root) in said
    assert f"leads to {root}/disk/clips/a.mp4, which is outside {root}/data" in said
    assert f'; dataloader_train.dataset.media_roots = ["{root}/disk/clips"] allows it' in said


def test_a_pipe_which_might_be_read_forever_is_no_file(root: Path) -> None:
    os.mkfifo(root / "data/pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png is a pipe or a device$"):
        find(root, "pipe.png")


@pytest.mark.parametrize("text", OUTSIDE)
@pytest.mark.parametrize("allowed", ["disk/clips", "disk", "."])
def test_media_roots_allow_it(root: Path, text: str, allowed: str) -> None:
    assert find(root, text.format(root=root), allowed) == root / "disk/clips/a.mp4"


@pytest.mark.parametrize("text", ["../disk/clips/away.mp4", "clips/away.mp4", "../disk/clips/../../third/b.mp4"])
def test_what_leaves_the_media_roots_too_is_refused(root: Path, text: str) -> None:
    with pytest.raises(OutsidePath, match="third/b.mp4, which is outside"):
        find(root, text, "disk/clips")
    assert find(root, text, "disk/clips", "third") == root / "third/b.mp4"


def test_a_media_root_that_is_a_link_stands_for_where_it_leads(root: Path) -> None:
    (root / "mounted").symlink_to(root / "disk")
    assert find(root, f"{root}/mounted/clips/a.mp4", "mounted") == root / "disk/clips/a.mp4"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\0b.mp4", "holds a NUL character"),
        ("a\udcff.mp4", "not UTF-8"),
        ("a" + chr(0xD800) + ".mp4", "not UTF-8"),
        ("ü" * 150 + ".mp4", "has a name of 304 bytes; a file's name has at most 255"),
        ("loop", "leads back to itself"),
    ],
    ids=["NUL", "byte", "half", "long", "loop"],
)
def test_what_no_file_can_be_called_is_one_sentence(root: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        find(root, text, ".")
    str(refused.value).encode()


@pytest.mark.parametrize("name", ["a b", "ümläut", "视频", "🎬", "-x", "[a]*?", "#1", "100%", "new\nline", "a:b"])
def test_any_other_name_is_a_name(root: Path, name: str) -> None:
    assert find(root, f"videos/{name}.mp4") == root / "data/videos" / f"{name}.mp4"
