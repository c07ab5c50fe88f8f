"""Checks and peers with planted faults; loaded by name in the doctor's child process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from cosmos_core.doctor import Check, DoctorOptions, Result

if TYPE_CHECKING:
    from cosmos_core.doctor.peer import Group

__all__ = ["crashing", "hanging", "hanging_peer", "raising", "unlisted", "wrong_peer"]

OK = Result(status="ok", message="right")


def _crash() -> Result:
    print("the kernel says farewell", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    return OK


def _hang() -> Result:
    time.sleep(60)
    return OK


def _raise() -> Result:
    raise OSError("no driver\nand more")


def crashing(options: DoctorOptions) -> Iterable[Check]:
    """A native kernel that dies, between two that work."""
    return [Check("before", lambda: OK), Check("kernel", _crash), Check("after", lambda: OK)]


def hanging(options: DoctorOptions) -> Iterable[Check]:
    """One that never returns."""
    return [Check("kernel", _hang, 0.5), Check("after", lambda: OK)]


def raising(options: DoctorOptions) -> Iterable[Check]:
    """One that raises."""
    return [Check("kernel", _raise)]


def unlisted(options: DoctorOptions) -> Iterable[Check]:
    """A group that cannot even be listed."""
    raise ImportError("libacme.so: not found")


def hanging_peer(connection: Connection, device: str, index: int) -> None:
    """Starts, then never answers."""
    connection.send(OK)
    time.sleep(60)


def wrong_peer(connection: Connection, device: str, index: int) -> None:
    """Its second member computes wrong sums, its first does not notice."""
    connection.send(OK)
    group: Group = connection.recv()
    wrong = Result(status="broken", message="wrong values after all-reduce")
    connection.send(wrong if group.rank else OK)
    connection.recv()
