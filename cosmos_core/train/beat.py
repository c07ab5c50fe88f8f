"""A beat: the file in which each rank says, every few seconds, where it is."""

from __future__ import annotations

import faulthandler
import json
import os
import platform
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from attrs import asdict, frozen

from cosmos_core.plan.record import replace_file
from cosmos_core.train.activity import Activity

__all__ = ["Beat", "read_beats", "remove_beat", "take_beat", "write_beat"]

COLLECTIVES = os.path.join("torch", "distributed", "")
"""Part of the path of files whose functions wait for other ranks."""
FRAMES = 16
"""Innermost frames of a stack that are kept."""
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x([0-9a-f]+).*\n((?:  .*\n)*)", re.MULTILINE)
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)


@frozen
class Beat:
    """One rank at one time.

    time: seconds since the epoch. stalled: seconds without a sign of life. collective: the function of
    torch.distributed it waits in, empty when in none. stack: of the thread that trains, innermost last.
    """

    rank: int
    host: str
    process: int
    time: float
    step: int
    doing: str
    count: int
    stalled: float
    collective: str
    stack: tuple[str, ...]


def take_beat(rank: int, thread: int, activity: Activity, stalled: float) -> Beat:
    """Of this process, now. thread: the one that trains."""
    collective, stack = _where(thread)
    return Beat(
        rank=rank,
        host=platform.node(),
        process=os.getpid(),
        time=time.time(),
        step=activity.step,
        doing=activity.doing,
        count=activity.count,
        stalled=stalled,
        collective=collective,
        stack=stack,
    )


def write_beat(folder: Path, beat: Beat) -> None:
    """Replace this rank's file; the folder is made."""
    folder.mkdir(exist_ok=True)
    replace_file(folder / f"{beat.rank}.json", json.dumps(asdict(beat)).encode())


def read_beats(folder: Path) -> dict[int, Beat]:
    """The newest of every rank, by rank."""
    beats = {}
    for path in folder.glob("[0-9]*.json"):
        with suppress(OSError):  # That rank ends just now.
            values = json.loads(path.read_text(encoding="utf-8"))
            beats[values["rank"]] = Beat(**{**values, "stack": tuple(values["stack"])})
    return beats


def remove_beat(folder: Path, rank: int) -> None:
    """Remove a rank's file, and the folder with the last one."""
    (folder / f"{rank}.json").unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def _where(thread: int) -> tuple[str, tuple[str, ...]]:
    """The collective that some thread of this process waits in, and the stack of `thread`.

    The text comes from faulthandler: with CPython 3.11, walking through the frames of threads that go on running
    (``sys._current_frames``) corrupts memory once in some ten thousand times.
    """
    text, collective, own = "", "", list[str]()
    with suppress(OSError), TemporaryFile() as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        text = file.read().decode(errors="replace")
    for number, calls in _THREAD.findall(text):
        frames = _FRAME.findall(calls)  # Innermost first.
        if int(number, 16) == thread:
            own = [f"{file}:{line} in {name}" for file, line, name in frames[:FRAMES][::-1]]
        if int(number, 16) != threading.get_ident() and frames and COLLECTIVES in frames[0][0]:
            api = [name for file, _, name in frames if file.endswith("distributed_c10d.py")]
            collective = api[-1] if api else frames[0][2]
    return collective, tuple(own)
