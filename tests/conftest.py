"""Commands that a test starts, and ends whatever becomes of the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.command import Start
from tests.started import ForkedCosmos


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``python -m MODULE ARGUMENTS...``, `cosmos` by default, as the leader of a process group.

    forked: with its imports done; see `ForkedCosmos`. All that is left of it is killed after the test.
    """
    started: list[subprocess.Popen[str]] = []

    def begin(
        *arguments: str, module: str = "cosmos_core", env: dict[str, str] | None = None, forked: bool = False
    ) -> subprocess.Popen[str]:
        process = (ForkedCosmos if forked else subprocess.Popen)(
            arguments if forked else [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ranks are in sessions of their own; under torch's agent they would outlive it."""
    members: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        members = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    with process:  # Reaps it and closes its pipes.
        pass
