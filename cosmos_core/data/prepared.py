"""Folders that `cosmos data prepare` writes: whole or absent, with a record of what they were asked to hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError, file_of
from cosmos_core.formats import check_format
from cosmos_core.names import is_taken
from cosmos_core.plan.directory_lock import directory_lock, empty_directory
from cosmos_core.strict_json import read_object

__all__ = ["RECORD", "write_prepared"]

RECORD = ".prepared.json"
PREPARED_FORMAT = 1
"""Of the record."""


def write_prepared(
    root: Path, options: Mapping[str, Any], write: Callable[[Path], None], *, package: str, resume: bool = False
) -> bool:
    """Let `write` fill a hidden folder, which becomes `root` when it returns; False if `root` holds it already.

    options: what the folder is asked to hold, as plain values. package: to upgrade for a newer record. resume: `write`
    is given what an interrupted call left, whatever its options were. Raises UserError when `root` holds something
    else or another command writes it, and when it cannot be written.
    """
    try:
        if is_taken(root):
            if (recorded := _recorded(root / RECORD, package)) == dict(options):
                return False
            other = [name for name in options if recorded and recorded.get(name) != options[name]]
            what = f": it differs in {', '.join(other)}" if other else ""
            raise UserError(f"{root} exists and holds something else{what}; choose another folder or remove it")
        hidden = root.with_name(f".{root.name}.partial")
        with directory_lock(hidden):
            if not resume:
                empty_directory(hidden)
            write(hidden)
            (hidden / RECORD).write_text(json.dumps({"format": PREPARED_FORMAT, **options}) + "\n", encoding="utf-8")
            hidden.rename(root)
    except OSError as error:
        problem = Problem(message=error.strerror or str(error), file=file_of(error, root))
        raise UserError(f"{root} cannot be written", [problem]) from error
    return True


def _recorded(path: Path, package: str) -> dict[str, Any]:
    """The options a folder was written with; {} if unknown."""
    try:
        content = read_object(path)
    except UserError:
        return {}
    check_format(content, path, PREPARED_FORMAT, package=package)
    return {name: value for name, value in content.items() if name != "format"}
