"""A check of this machine, and what it found. Light: what a check uses is imported when it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from attrs import field, frozen

__all__ = ["Check", "DoctorOptions", "Outcome", "Result", "Status"]

Status = Literal["ok", "note", "broken", "skipped"]


@frozen(kw_only=True)
class DoctorOptions:
    """quick: leave out what takes more than seconds. offline: do not try the network. output_root: of all runs."""

    quick: bool
    offline: bool
    output_root: Path


@frozen(kw_only=True)
class Result:
    """What one check found.

    status: 'broken' is something that runs need and makes the command fail; a 'note' is worth knowing; 'skipped' was
    not tested. hint: what to do about it. data: for programs, numbers and text only.
    """

    status: Status
    message: str
    hint: str = ""
    data: Mapping[str, float | int | str | bool] = field(factory=dict)


@frozen
class Check:
    """One test. run: called in a process of the doctor's own, which may crash. limit: seconds before it is ended."""

    name: str
    run: Callable[[], Result]
    limit: float = 60.0


@frozen(kw_only=True)
class Outcome:
    """A finished check. group: name of the contribution it belongs to."""

    group: str
    name: str
    result: Result
    seconds: float
