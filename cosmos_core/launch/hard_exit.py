"""A hard exit: how a process that has loaded torch ends."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

__all__ = ["hard_exit"]


def hard_exit(code: int) -> NoReturn:
    """Exit with `code` at once: exit handlers run and streams are flushed, but the interpreter is not finalized.

    gloo's threads outlive ``destroy_process_group`` while anything holds the group, and they release a collective's
    tensors after its caller went on. A thread that needs the interpreter for this during finalization is unwound by
    force, and C++ answers with ``terminate``: a run that went well would end with SIGABRT.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError):
            stream.flush()
    os._exit(code)
