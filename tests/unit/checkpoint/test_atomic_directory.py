"""Where an output folder may not be, and that a long work is not begun for one."""

from __future__ import annotations

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
        with pytest.raises(UserError, match="exists already"), atomic_directory(tmp_path / name, "nothing"):
            pytest.fail("it was begun")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "loop"]
