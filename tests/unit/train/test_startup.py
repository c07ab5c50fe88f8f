"""The clock of a run's start."""

from __future__ import annotations

from cosmos_core.train.startup import StartUp
from tests.unit.logged import logged


def test_phases_follow_each_other_from_the_time_given() -> None:
    with logged() as lines:
        startup = StartUp(100.0)
        startup.mark("processes", at=106.5)
        startup.split("compiling", 2.0)
        startup.split("nothing", 0.0)
        startup.mark("first step", at=110.0)
    assert startup.seconds == {"processes": 6.5, "compiling": 2.0, "first step": 1.5}
    assert lines == [f"start: {text} s" for text in ("processes took 6.5", "compiling took 2.0", "first step took 1.5")]


def test_no_phase_ends_before_it_began() -> None:
    """Clocks of files and processes differ by a little."""
    with logged() as lines:
        startup = StartUp(100.0, silent=True)
        startup.mark("processes", at=99.0)
    assert startup.seconds == {"processes": 0.0}
    assert not lines
