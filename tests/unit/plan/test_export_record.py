"""What an export says of itself is read back as it was written; a damaged record is one clear error."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosmos_core.errors import UserError
from cosmos_core.plan import ExportRecord, read_export
from cosmos_core.plan.export_record import write_export

RECORD = ExportRecord(
    task="vfm",
    run="/runs/cosmos3/sft/first",
    step=200,
    weights="ema",
    base="nvidia/Cosmos3-Nano@abc",
    data={"training data": "bridge /clips"},
    generation={"steps": 35, "fps": 24.0, "frames": None},
)


def test_a_record_is_read_back_as_written(tmp_path: Path) -> None:
    assert read_export(tmp_path) is None
    write_export(tmp_path, RECORD)
    assert read_export(tmp_path) == RECORD


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "has no task"),
        ('{"format": 1}', "has no task"),
        ('{"task": "vfm", "generation": 3, "step": "x"}', "generation, step|step, generation"),
        ('{"format": 2, "task": "vfm"}', "newer version"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cosmos_export.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_export(tmp_path)
