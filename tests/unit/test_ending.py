"""A process that did its work well says so, whatever its libraries' threads are doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

BUSY = """
import atexit, sys, threading
import torch
from cosmos_core.launch import end_process

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
    done = ended(f"end_process({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, "printed\nhandler ran\n", "")
