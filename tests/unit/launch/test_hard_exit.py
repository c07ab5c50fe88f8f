"""A process that did its work well says so, whatever its libraries' threads are doing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BUSY = """
import atexit, sys, threading
import torch
from cosmos_core.launch import hard_exit

def call_without_end():
    values = torch.ones(8)
    while True:
        values.add(1)

for _ in range(4):
    threading.Thread(target=call_without_end, daemon=True).start()
atexit.register(print, "handler ran")
print("printed")
"""


def ended(last: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BUSY + last], capture_output=True, text=True)


@pytest.mark.parametrize("code", [0, 75])
def test_threads_in_native_code_do_not_change_the_exit_code(code: int) -> None:
    done = ended(f"hard_exit({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\nhandler ran\n", "")


def test_a_reader_that_went_away_does_not_change_the_exit_code() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", BUSY + "hard_exit(0)"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=buffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
