"""How a process that has loaded torch ends."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["end_process"]


def end_process(code: int) -> NoReturn:
    """Exit with `code` at once: exit handlers run and streams are flushed, but the interpreter is not taken down.

    gloo's threads outlive ``destroy_process_group`` while anything holds the group, and let go of a collective's
    tensors after its waiter went on. A thread that needs the interpreter for this while the interpreter is being taken
    down is unwound by force, and C++ answers with ``terminate``: a run that went well would end with SIGABRT.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)
