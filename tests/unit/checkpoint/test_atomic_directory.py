"""Where an output folder may not be, and that a long work is not begun for one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from cosmos_core.checkpoint.atomic_directory import atomic_directory
from cosmos_core.errors import UserError


def test_nothing_is_written_into_a_checkpoint_or_a_base(tmp_path: Path) -> None:
    (tmp_path / "base/model").mkdir(parents=True)
    (tmp_path / "base/model/.metadata").touch()
    (tmp_path / "link").symlink_to("base/model")
    for output in (tmp_path / "base/export", tmp_path / "link/export"):
        with pytest.raises(UserError, match="would be part of a checkpoint"), atomic_directory(output, "nothing"):
            pytest.fail("it was begun")
        assert not output.exists()


def test_a_name_that_no_new_folder_can_take_is_refused_before_the_work(tmp_path: Path) -> None:
    """A link that leads nowhere, or to itself, is there; so is what lies above a folder."""
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("gone", "loop", "new/.."):
        refused = pytest.raises(UserError, match="exists already; nothing\n  choose another folder or remove it")
        with refused, atomic_directory(tmp_path / name, "nothing"):
            pytest.fail("it was begun")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "loop"]


@pytest.mark.parametrize("made_of", [None, "the same"])
def test_a_second_command_with_the_same_output_is_refused_and_takes_nothing_from_the_first(
    tmp_path: Path, made_of: str | None
) -> None:
    output = tmp_path / "out"
    with atomic_directory(output, "nothing", made_of=made_of) as folder:
        (folder / "one").touch()
        with pytest.raises(UserError, match="another command") as error, atomic_directory(output, "x", made_of=made_of):
            pytest.fail("it was begun")
        assert error.value.problems[0].hint == "wait for it, or choose another output"
        (folder / "two").touch()
    assert sorted(path.name for path in output.iterdir()) == ["one", "two"]


def test_what_an_attempt_from_other_sources_left_is_removed_but_nothing_behind_a_link(tmp_path: Path) -> None:
    for made_of in ("one", "other"):
        with suppress(ZeroDivisionError), atomic_directory(tmp_path / "out", "nothing", made_of=made_of) as folder:
            assert [path.name for path in folder.iterdir()] == [".made_of"]
            (folder / "folder").mkdir()
            (folder / "folder/file").touch()
            (folder / "link").symlink_to(tmp_path)
            raise ZeroDivisionError
    assert (tmp_path / ".out.partial/folder/file").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").touch()
    (tmp_path / ".linked.partial").symlink_to("mine")
    with pytest.raises(UserError, match="cannot be written"), atomic_directory(tmp_path / "linked", "nothing"):
        pytest.fail("it was begun")
    assert (tmp_path / "mine/file").exists()
