"""Requests to stop: which signals count as one, which end a run at once, and how ranks hear of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cosmos_core.launch import stop as stop_module
from cosmos_core.launch.stop import StopRequests
from cosmos_core.stop_signals import STOP_SIGNALS


@pytest.fixture
def stop() -> Iterator[StopRequests]:
    with StopRequests().listening() as requests:
        requests.announce = lambda text: None
        yield requests


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_signal_asks_to_stop_and_only_the_keyboard_interrupts(stop: StopRequests, number: signal.Signals) -> None:
    assert not stop.pending
    send(number)
    assert stop.pending
    assert stop.outcome == ("interrupted" if number == signal.SIGINT else "stopped")


def test_signals_of_the_same_stop_count_once(stop: StopRequests) -> None:
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        send(number)
    assert stop.outcome == "stopped"


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_later_only_int_and_term_end_at_once(
    stop: StopRequests, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stop_module, "SAME_STOP_SECONDS", 0.01)
    send(signal.SIGTERM)
    time.sleep(0.02)
    if number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            send(number)
    else:
        send(number)
        assert stop.pending


def test_a_signal_that_is_ignored_stays_ignored_and_handlers_return(stop: StopRequests) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests().listening() as inner:
            send(signal.SIGHUP)
            assert not inner.pending
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    send(signal.SIGTERM)
    assert stop.pending


@pytest.mark.parametrize("early", [True, False])
def test_ranks_find_the_request_in_a_file(stop: StopRequests, tmp_path: Path, early: bool) -> None:
    file = tmp_path / ".stop_requested"
    rank = StopRequests(file)
    if early:
        send(signal.SIGINT)
    stop.pass_on(file)
    assert rank.pending == early
    if not early:
        send(signal.SIGINT)
    assert (rank.pending, rank.outcome) == (True, "interrupted")


@pytest.mark.parametrize("early", [True, False])
def test_a_full_disk_raises_nothing_in_what_a_signal_interrupts(stop: StopRequests, early: bool) -> None:
    if early:
        send(signal.SIGTERM)
    stop.pass_on(Path("/dev/full"))
    if not early:
        send(signal.SIGTERM)
    assert stop.outcome == "stopped"


def test_a_file_made_by_hand_asks_too(tmp_path: Path) -> None:
    rank = StopRequests(tmp_path / ".stop_requested")
    assert not rank.pending
    (tmp_path / ".stop_requested").touch()
    assert (rank.pending, rank.outcome) == (True, "stopped")


def test_a_command_that_ends_next_keeps_its_exit_code() -> None:
    code = """
import os, signal, sys
from cosmos_core.launch.stop import StopRequests

with StopRequests().listening(until_exit=True) as stop:
    os.kill(os.getpid(), signal.SIGINT)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    os.kill(os.getpid(), number)
sys.exit(75)
"""
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == 75


def test_people_are_told_what_happens_and_how_to_end_at_once() -> None:
    told: list[str] = []
    with StopRequests().listening() as stop:
        stop.announce = told.append
        send(signal.SIGUSR2)
        send(signal.SIGUSR2)
    deadline = time.monotonic() + 60
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(told) == 1
    assert told[0].startswith("SIGUSR2: finishing the step, then saving a checkpoint and stopping")
    assert "Ctrl-C or SIGTERM after 5 seconds ends at once" in told[0]
