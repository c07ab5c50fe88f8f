"""Runs checks in a child process, so that a crash or a hang of native code becomes a result."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from cosmos_core.doctor.check import DoctorOptions, Outcome, Result
from cosmos_core.doctor.child import Finished, Place, Started, serve
from cosmos_core.plugin.descriptors import DoctorSpec

__all__ = ["run_checks"]

STARTING = 120.0
"""Seconds for what comes before a check: starting Python, importing torch, listing the checks of a group."""
ENDING = 5.0
"""Seconds to wait for a process that was killed."""
LISTED = "list of checks"
LOG_LINES = 3


def run_checks(
    specs: Sequence[DoctorSpec], options: DoctorOptions, on_start: Callable[[str, str], None]
) -> Iterator[Outcome]:
    """Every check of every group, in order; `on_start` is told the group and the name of each before it runs.

    All share one child process. When a check crashes or takes longer than its limit, the next runs in a fresh one. So
    it does after a check that found something broken: an error may leave a device unusable for the whole process.
    """
    place: Place | None = Place(0)
    while place is not None and place.group < len(specs):
        place = yield from _one_child(specs, options, place, on_start)


def _one_child(
    specs: Sequence[DoctorSpec], options: DoctorOptions, place: Place, on_start: Callable[[str, str], None]
) -> Generator[Outcome, None, Place | None]:
    """Outcomes from `place` on, of one process; returns where the next process begins, None when all are done."""
    with tempfile.NamedTemporaryFile(prefix="cosmos-doctor-", suffix=".log") as log:
        context = multiprocessing.get_context("spawn")
        events, sender = context.Pipe(duplex=False)
        groups = [spec.checks for spec in specs]
        process = context.Process(target=serve, args=(sender, groups, options, place, Path(log.name)))
        process.start()
        sender.close()
        name, limit, since = LISTED, STARTING, time.monotonic()
        try:
            while (event := _next_event(events, process, limit, Path(log.name))) is not None:
                if isinstance(event, Started):
                    place, name, since = event.place, event.name or LISTED, time.monotonic()
                    limit = event.limit or STARTING
                    if event.name:
                        on_start(specs[place.group].name, name)
                    continue
                seconds = time.monotonic() - since
                if name == LISTED:
                    on_start(specs[place.group].name, name)
                yield Outcome(group=specs[place.group].name, name=name, result=event.result, seconds=seconds)
                if event.result.status == "broken":
                    return place.next()
                limit = STARTING
        finally:
            process.kill()
            process.join(ENDING)
    return None


def _next_event(events: Connection, process: BaseProcess, limit: float, log: Path) -> Started | Finished | None:
    """What the child sends, None at its end; silence and death are results too."""
    try:
        if events.poll(limit):
            event: Started | Finished | None = events.recv()
            return event
    except EOFError:
        process.join(ENDING)
        return Finished(_died(process.exitcode, log))
    return Finished(Result(status="broken", message=f"no answer in {limit:g} s", hint="the process was ended"))


def _died(code: int | None, log: Path) -> Result:
    """The result for a process that ended by itself, with the last lines it printed."""
    how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[:LOG_LINES]
    return Result(
        status="broken",
        message=f"its process died ({how})",
        hint="the native code behind it is broken or was killed: reinstall the package for this machine's driver and "
        "check `dmesg` for memory that ran out",
        data={"output": "\n".join(lines)},
    )
