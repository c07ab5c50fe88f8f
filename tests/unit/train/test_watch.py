"""A rank that hangs: when, who is named, and how it is told; ranks that lag."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import evolve

from cosmos_core.config.problems import render
from cosmos_core.config.run import TimeoutConfig, TrainerConfig
from cosmos_core.errors import RankLost, ReportedError
from cosmos_core.launch.stop import StopRequests
from cosmos_core.train.activity import Activity
from cosmos_core.train.beat import Beat, read_beats, take_beat, write_beat
from cosmos_core.train.hang import hanging, suspects
from cosmos_core.train.stragglers import Stragglers
from cosmos_core.train.watch import Watch
from tests.unit.logged import logged

BEAT = Beat(
    rank=0,
    host="elsewhere",
    process=7,
    time=1000.0,
    step=5,
    doing="update",
    count=20,
    stalled=9.0,
    collective="all_reduce",
    stack=("loop.py:3 in wait",),
)


@contextmanager
def watching(folder: Path, activity: Activity, *, grace: float = 0.0, **limits: float) -> Iterator[list[ReportedError]]:
    """What the watch of a single rank ends it with. limits: of ``trainer.timeout``, in seconds."""
    ends: list[ReportedError] = []
    timeout = TimeoutConfig(**{"startup": 0.0, "step": 0.0, **limits})
    config = TrainerConfig(timeout=timeout, stop_grace=grace)
    activity.folder = folder / "beats"
    stop = StopRequests(folder / ".stop_requested")
    watch = Watch(activity, rank=0, world=1, config=config, stop=stop, end=ends.append)
    with watch.running():
        yield ends


def wait_for(ends: list[ReportedError]) -> ReportedError:
    deadline = time.monotonic() + 60
    while not ends:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ends[0]


def test_a_phase_of_a_step_that_does_not_end_is_named_with_its_stack(tmp_path: Path) -> None:
    activity = Activity()
    activity.enter("forward and backward", step=3, long=False)
    with watching(tmp_path, activity, step=0.3, startup=100.0) as ends:
        error = wait_for(ends)
    assert isinstance(error, RankLost)
    told = render(error)
    assert "rank 0 hangs in step 3 (forward and backward)" in told
    assert "in wait_for" in told
    assert "trainer.timeout.step: is 0.3 seconds" in told
    assert not (tmp_path / "beats").exists()


def test_the_start_a_save_and_a_callback_have_a_limit_of_their_own(tmp_path: Path) -> None:
    activity = Activity()
    activity.enter("saving a checkpoint")
    with watching(tmp_path, activity, step=0.1, startup=0.6) as ends:
        assert "trainer.timeout.startup: is 0.6 seconds" in render(wait_for(ends))


@pytest.mark.parametrize("limit", [1.0, 0.0])
def test_progress_and_no_limit_keep_a_run_alive(tmp_path: Path, limit: float) -> None:
    activity = Activity()
    activity.enter("validation", long=False)
    with watching(tmp_path, activity, step=limit) as ends:
        for _ in range(14):
            time.sleep(0.1)
            if limit:
                activity.alive()
    assert not ends


def test_a_stop_that_takes_too_long_ends_the_run(tmp_path: Path) -> None:
    activity = Activity()
    with watching(tmp_path, activity, grace=0.3) as ends:
        time.sleep(0.4)
        assert not ends
        (tmp_path / ".stop_requested").touch()
        error = wait_for(ends)
    assert isinstance(error, RankLost)
    assert "trainer.stop_grace: is 0.3 seconds; rank 0 is at: starting" in render(error)


def test_a_beat_says_where_the_thread_that_trains_is(tmp_path: Path) -> None:
    activity = Activity()
    activity.enter("update", step=4)
    write_beat(tmp_path, take_beat(2, threading.get_ident(), activity, 1.5))
    beat = read_beats(tmp_path)[2]
    assert (beat.step, beat.doing, beat.count, beat.stalled, beat.collective) == (4, "update", 1, 1.5, "")
    assert any("test_a_beat_says_where" in line for line in beat.stack)


@pytest.mark.parametrize(
    ("beats", "named"),
    [
        ([BEAT, evolve(BEAT, rank=1, time=990.0)], [1]),
        ([BEAT], [1]),
        ([evolve(BEAT, collective=""), evolve(BEAT, rank=1, count=19)], [1]),
        ([BEAT, evolve(BEAT, rank=1, collective="")], [1]),
        ([BEAT, evolve(BEAT, rank=1)], [0, 1]),
        ([evolve(BEAT, count=21, time=990.0), evolve(BEAT, rank=1, collective="")], [1]),
        ([BEAT, evolve(BEAT, rank=1, count=21, time=990.0)], [1]),
        ([BEAT, evolve(BEAT, rank=1, collective=""), evolve(BEAT, rank=2, count=3, time=99999.0)], [1]),
    ],
    ids=[
        *("no beat for long", "no beat ever", "behind", "in no collective", "no difference"),
        *("behind one whose machine is busy", "no beat for long, ahead of one that waits", "of a larger run"),
    ],
)
def test_the_rank_that_the_others_wait_for_is_named(beats: list[Beat], named: list[int]) -> None:
    by_rank = {beat.rank: beat for beat in beats}
    assert suspects(by_rank, world=2, silent=4.0) == named
    told = render(hanging(by_rank, world=2, silent=4.0, limit=("trainer.timeout.step", 9.0)))
    assert f"rank{'s' if len(named) > 1 else ''} {', '.join(map(str, named))} hang" in told
    assert ("; rank 0 waits for it in all_reduce; the last" in told) == (named == [1] and by_rank[0].collective != "")
    assert ("; rank 0 is at: update; the last" in told) == (by_rank[0].collective == "")


def test_what_the_others_do_is_told_apart() -> None:
    """One may still wait for its own save when a peer hangs."""
    saving = evolve(BEAT, rank=1, count=21, collective="", doing="waiting for the checkpoint of step 4")
    beats = [BEAT, saving, evolve(saving, rank=2), evolve(BEAT, rank=3, count=19, collective=""), evolve(BEAT, rank=4)]
    by_rank = {beat.rank: beat for beat in beats}
    told = render(hanging(by_rank, world=5, silent=4.0, limit=("trainer.timeout.step", 9.0)))
    assert "rank 3 hangs in step 5 (update); ranks 0, 4 wait for it in all_reduce; ranks 1, 2 are at: waiting" in told


def test_a_rank_that_holds_the_others_up_is_named_once() -> None:
    stragglers = Stragglers(every=1)
    with logged() as lines:
        for _ in range(30):
            stragglers.add([0.4, 0.0, 0.5], 1.0)
    assert len(lines) == 1
    assert lines[0].startswith("rank 1 holds the others up: they wait 0.45 s a step for it, it waits 0.00 s, of 1.00 s")


def test_waiting_by_chance_names_no_rank() -> None:
    stragglers = Stragglers(every=10)
    with logged() as lines:
        for step in range(40):
            stragglers.add([0.3, 0.0] if step % 2 else [0.0, 0.3], 1.0)
    assert not lines
