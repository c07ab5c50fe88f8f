"""A beat: the file in which each rank says, every few seconds, where it is."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from traceback import walk_stack

from attrs import asdict, frozen

from cosmos_core.plan.record import replace_file
from cosmos_core.train.activity import Activity

__all__ = ["Beat", "read_beats", "remove_beat", "take_beat", "write_beat"]

COLLECTIVES = os.path.join("torch", "distributed", "")
"""Part of the path of files whose functions wait for other ranks."""
FRAMES = 16
"""Innermost frames of a stack that are kept."""


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
    """The collective that some thread of this process waits in, and the stack of `thread`."""
    frames = sys._current_frames()
    collective = ""
    for other, frame in frames.items():
        if other != threading.get_ident() and COLLECTIVES in frame.f_code.co_filename:
            codes = [called.f_code for called, _ in walk_stack(frame)]
            api = [code.co_name for code in codes if code.co_filename.endswith("distributed_c10d.py")]
            collective = api[-1] if api else codes[0].co_name
    # `walk_stack` reads no source, unlike `extract_stack`.
    own = list(walk_stack(frames[thread]))[:FRAMES] if thread in frames else []
    return collective, tuple(
        f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}" for frame, line in own[::-1]
    )
