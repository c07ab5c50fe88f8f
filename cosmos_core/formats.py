"""Format numbers of files that later versions read back.

The code that writes a kind of file increments its number when an older version would misread the new form.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cosmos_core.errors import Problem, UserError

__all__ = ["check_format"]


def check_format(record: Any, file: Path, known: int, *, package: str = "cosmos-core") -> None:
    """Reject a record that a newer version wrote to `file`.

    Its number is the key ``format``; without one it is in format 1, from before files had a number.

    known: the newest format that the caller reads. package: the distribution to upgrade. Raises UserError.
    """
    number = record.get("format", 1) if isinstance(record, Mapping) else 1
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        problem = Problem(
            message=f"its format is {number!r}, which is not a whole number of at least 1", file=str(file)
        )
        raise UserError(f"{file.name} is damaged; nothing was read from it", [problem])
    if number > known:
        reads = "only format 1" if known == 1 else f"formats up to {known}"
        message = f"is in format {number}; this version of {package} reads {reads}"
        problem = Problem(message=message, file=str(file), hint=f"upgrade {package}")
        raise UserError(f"{file.name} was written by a newer version; nothing was read from it", [problem])
