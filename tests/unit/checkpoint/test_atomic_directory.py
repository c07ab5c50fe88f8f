"""Where an output folder may not be."""

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
