"""Watches over this rank from a thread: a rank that hangs is named and ended, and so is a stop that takes too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from cosmos_core.config.run import TrainerConfig
from cosmos_core.errors import Problem, RankLost, ReportedError
from cosmos_core.launch.stop import StopRequests
from cosmos_core.train.activity import Activity
from cosmos_core.train.beat import read_beats, remove_beat, take_beat, write_beat
from cosmos_core.train.hang import hanging

__all__ = ["Watch"]

MAX_TICK = 5.0
"""Seconds between two beats, at most."""


class Watch:
    """Beats while the run goes on. Every rank watches its own progress, and reads the beats of all to name the cause.

    A hung rank stops its peers too, so each of them ends by itself within `trainer.timeout`.
    """

    def __init__(
        self,
        activity: Activity,
        *,
        rank: int,
        world: int,
        config: TrainerConfig,
        stop: StopRequests,
        end: Callable[[ReportedError], None],
    ) -> None:
        """end: called once, in the watching thread, when the run must end."""
        self._activity, self._rank, self._world = activity, rank, world
        self._timeout, self._grace, self._stop, self._end = config.timeout, config.stop_grace, stop, end
        limits = [limit for limit in (config.timeout.startup, config.timeout.step, config.stop_grace) if limit]
        self._tick = min([MAX_TICK, *(limit / 10 for limit in limits)])
        self._done = threading.Event()
        self._thread = threading.get_ident()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the thread that calls this while inside."""
        self._thread = threading.get_ident()
        thread = threading.Thread(target=self._run, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()
            if self._activity.folder is not None:
                remove_beat(self._activity.folder, self._rank)

    def _run(self) -> None:
        error = self._watch()
        if error is not None:
            self._end(error)

    def _watch(self) -> ReportedError | None:
        """What the run must end with; None when it ended by itself."""
        signs, stalled, stopping, before = -1, 0.0, 0.0, time.monotonic()
        while not self._done.wait(self._tick):
            now = time.monotonic()
            passed = min(now - before, 2 * self._tick)  # More when the whole job was suspended.
            before = now
            stalled = 0.0 if self._activity.signs != signs else stalled + passed
            signs = self._activity.signs
            stopping = stopping + passed if self._stop.pending else 0.0
            beat = take_beat(self._rank, self._thread, self._activity, stalled)
            folder = self._activity.folder
            if folder is not None:
                with suppress(OSError):  # A full disk is reported by what must be written.
                    write_beat(folder, beat)
            limit, key = self._limit()
            if limit and stalled >= limit:
                beats = {**(read_beats(folder) if folder is not None else {}), self._rank: beat}
                return hanging(beats, world=self._world, silent=4 * self._tick, limit=(key, limit))
            if self._grace and stopping >= self._grace:
                return self._too_slow()
        return None

    def _limit(self) -> tuple[float, str]:
        if self._activity.long:
            return self._timeout.startup, "trainer.timeout.startup"
        return self._timeout.step, "trainer.timeout.step"

    def _too_slow(self) -> RankLost:
        doing = f"rank {self._rank} is at: {self._activity.doing}"
        problem = Problem(message=f"is {self._grace:g} seconds; {doing}", key="trainer.stop_grace", hint="raise it")
        title = "the run was asked to stop and took too long; the last complete checkpoint stays the latest"
        return RankLost(title, [problem])
