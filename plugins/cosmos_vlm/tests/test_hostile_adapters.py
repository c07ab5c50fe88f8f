"""Adapters for chat whose settings hold what no export writes: one error with the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.errors import UserError
from cosmos_vlm.chat.adapter import FILE, read_adapter


@pytest.mark.parametrize(
    "settings",
    [
        "[]",
        "[" * 100_000,
        *(f'{{"r": {value}, "lora_alpha": 1}}' for value in ("0", "-4", '"x"', "[]", "NaN", "1e400", "1" + "0" * 400)),
        *(f'{{"r": 4, "lora_alpha": {value}}}' for value in ("0", "-4", "null", "1e400")),
    ],
)
def test_settings_of_wrong_types_are_refused(tmp_path: Path, settings: str) -> None:
    (tmp_path / FILE).write_text(settings)
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(str(tmp_path))


@pytest.mark.parametrize("scale", ["nan", "inf", "x"])
def test_a_scale_that_is_no_number_is_refused(tmp_path: Path, scale: str) -> None:
    (tmp_path / FILE).write_text('{"r": 4, "lora_alpha": 4}')
    assert read_adapter(f"{tmp_path}@0.5").scale == 0.5
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(f"{tmp_path}@{scale}")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "x/" * 3000])
def test_a_name_that_no_folder_can_have_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="the adapter cannot be used"):
        read_adapter(name)
