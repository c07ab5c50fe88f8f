"""Format numbers: a file that a later version reads back says in which format it is.

The code that owns a kind of file owns its number, and adds one when an older version would misread what it now writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError

__all__ = ["check_format"]


def check_format(record: Any, file: Path, known: int, *, package: str = "cosmos-core") -> None:
    """Refuse a record that a newer version wrote to `file`. Its number is the key ``format``; without one it is in
    format 1, as files were before they had a number.

    known: the newest format that the caller reads. package: the distribution to upgrade. Raises UserError.
    """
    number = record.get("format", 1) if isinstance(record, Mapping) else 1
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        problem = Problem(message=f"its format is {number!r}, which is not a number from 1 on", file=str(file))
        raise UserError(f"{file.name} is damaged; nothing was read from it", [problem])
    if number > known:
        reads = "only format 1" if known == 1 else f"formats up to {known}"
        message = f"is in format {number}; this version of {package} reads {reads}"
        problem = Problem(message=message, file=str(file), hint=f"upgrade {package}")
        raise UserError(f"{file.name} was written by a newer version; nothing was read from it", [problem])
