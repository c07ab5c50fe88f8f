"""Standard streams: any text can be printed, and what is printed comes when it should."""

from __future__ import annotations

import subprocess
import sys
from io import BytesIO, TextIOWrapper

import pytest

from cosmos_core.console.streams import steady_streams

BEGIN = "import os, sys; from cosmos_core.console.streams import steady_streams; steady_streams(); "


def test_what_an_unbuffered_process_prints_is_there_at_once() -> None:
    """As with PYTHONUNBUFFERED in a container: a process that is killed has a buffer that nobody sees."""
    code = BEGIN + "print('out'); print('error', file=sys.stderr); os._exit(0)"
    done = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("out\n", "error\n")


def test_a_stream_that_is_closed_takes_any_text() -> None:
    code = BEGIN + "print('\\udcff', flush=True); print('\\udcff', file=sys.stderr, flush=True); os._exit(7)"
    done = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&- 2>&-', sys.executable, code])
    assert done.returncode == 7


def test_a_stream_in_memory_stays_and_takes_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a program has it that calls `cosmos_core.cli.main` and keeps what it says."""
    streams = TextIOWrapper(BytesIO(), "ascii"), TextIOWrapper(BytesIO(), "ascii")
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    steady_streams()
    assert (sys.stdout, sys.stderr) == streams
    print("\u4e2d", flush=True)
    assert streams[0].buffer.getvalue() == b"\\u4e2d\n"
