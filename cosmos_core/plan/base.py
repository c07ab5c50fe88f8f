"""The record beside ``model/`` of a converted base: where it came from, and what its family needs to know of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError
from cosmos_core.formats import check_format
from cosmos_core.plan.layout import BASE_FILE

__all__ = ["read_base", "write_base"]

BASE_FORMAT = 1
BEFORE_NUMBERS = "cosmos3"
"""What the first version wrote as the format."""


def write_base(folder: Path, *, origin: str, config: Mapping[str, Any]) -> None:
    """Into a base's folder. origin: repository@commit, or a folder. config: the published configuration."""
    record = {"format": BASE_FORMAT, "origin": origin, "config": dict(config)}
    (folder / BASE_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_base(folder: Path) -> dict[str, Any]:
    """The record in a folder; {} when there is none. Raises UserError when it is damaged or too new."""
    path = folder / BASE_FILE
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(path, f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise _damaged(path, "holds no object")
    if found.get("format") == BEFORE_NUMBERS:
        del found["format"]
    check_format(found, path, BASE_FORMAT)
    return found


def _damaged(path: Path, message: str) -> UserError:
    problem = Problem(message=message, file=str(path), hint="convert the base again")
    return UserError("the record of a converted base is damaged; nothing was started", [problem])
