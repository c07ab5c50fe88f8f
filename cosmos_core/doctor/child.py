"""The child process of the doctor: runs one check after another and reports each before and after."""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from attrs import frozen

from cosmos_core.doctor.check import Check, DoctorOptions, Result
from cosmos_core.errors import first_line
from cosmos_core.launch.parent import set_parent_death_signal
from cosmos_core.refs import Ref

__all__ = ["Finished", "Place", "Started", "serve"]

LISTING = -1


@frozen
class Place:
    """check: number of a check in its group, LISTING while the group's checks are listed."""

    group: int
    check: int = LISTING

    def next(self) -> Place:
        """Where to go on after this one."""
        return Place(self.group + 1) if self.check == LISTING else Place(self.group, self.check + 1)


@frozen
class Started:
    """Sent before a check runs, and, without a name and a limit, before a group is listed."""

    place: Place
    name: str = ""
    limit: float | None = None


@frozen
class Finished:
    """Sent after it."""

    result: Result


def serve(events: Connection, groups: Sequence[Ref], options: DoctorOptions, begin: Place, log: Path) -> None:
    """Run all checks from `begin` on; None is sent at the end. What they print goes to `log`."""
    set_parent_death_signal(os.getppid())
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    for group in range(begin.group, len(groups)):
        events.send(Started(Place(group)))
        try:
            checks: list[Check] = list(groups[group].load()(options))
        except Exception as error:
            events.send(Finished(_failed(error)))
            continue
        for number in range(max(0, begin.check) if group == begin.group else 0, len(checks)):
            check = checks[number]
            events.send(Started(Place(group, number), check.name, check.limit))
            events.send(Finished(_run(check)))
    events.send(None)


def _run(check: Check) -> Result:
    try:
        return check.run()
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> Result:
    return Result(status="broken", message=f"{type(error).__name__}: {first_line(error)}")
