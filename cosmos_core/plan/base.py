"""The record beside ``model/`` of a converted base: its source, and its published configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.formats import check_format
from cosmos_core.plan.paths import BASE_FILE
from cosmos_core.strict_json import read_object

__all__ = ["read_base", "write_base"]

BASE_FORMAT = 1
BEFORE_NUMBERS = "cosmos3"
"""What the first version wrote as the format."""


def write_base(folder: Path, *, source_revision: str, config: Mapping[str, Any]) -> None:
    """Write the record of a base. source_revision: repository@commit, or a folder. config: the published one."""
    record = {"format": BASE_FORMAT, "origin": source_revision, "config": dict(config)}
    (folder / BASE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_base(folder: Path) -> dict[str, Any]:
    """The record in a folder; {} when there is none. Raises UserError when it is damaged or too new."""
    path = folder / BASE_FILE
    if not path.is_file():
        return {}
    title = "the record of a converted base is damaged; nothing was started"
    record = read_object(path, title, hint="convert the base again")
    if record.get("format") == BEFORE_NUMBERS:
        del record["format"]
    check_format(record, path, BASE_FORMAT)
    return record
