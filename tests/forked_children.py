"""Ranks, and the agent that starts them, as forks of the process that starts them: their imports are done already.

Only what replaces the program is left out. Each is a child of the same parent, with the session, the environment, the
descriptors and the signals that a fresh interpreter would have; and runs `cosmos_core.launch.child` like that.
"""

from __future__ import annotations

import gc
import logging
import os
import runpy
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import torch

__all__ = ["as_after_exec", "fork_children"]

CHILD = "cosmos_core.launch.child"
FORKED = {"cosmos_core.launch.agent:main", "cosmos_core.train.worker:main"}
"""Not the process that saves: it is started by one that computes, whose threads a fork would lack."""

_execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def fork_children() -> None:
    """From now on this process, and those that are forked from it, fork agents and ranks."""
    subprocess.Popen._execute_child = _forked  # type: ignore[attr-defined]


def _forked(self: Any, args: Any, executable: Any, preexec: Any, close: Any, kept: Any, cwd: Any, *rest: Any) -> None:
    """What `Popen` calls to start the program; `rest` begins with the environment."""
    command = [text for text in args if text != "-u"]
    if command[:3] != [sys.executable, "-m", CHILD] or command[4] not in FORKED:
        _execute(self, args, executable, preexec, close, kept, cwd, *rest)
        return
    environment, pipes, session = rest[0], rest[4:10], rest[-2]
    assert (preexec, cwd, kept) == (None, None, ()), "a child without them is all that can be forked"
    assert set(pipes) == {-1}, "its streams are the parent's"
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    self.pid = os.fork()
    self._child_created = True
    if self.pid == 0:
        _run(command[3:], os.environ if environment is None else dict(environment), session)


def _run(arguments: list[str], environment: Any, session: bool) -> NoReturn:
    try:
        gc.freeze()  # What the parent has is not closed here by and by: the numbers soon belong to others.
        if session:
            os.setsid()
        as_after_exec()
        changed = dict(environment)
        os.environ.clear()
        os.environ.update(changed)
        if threads := changed.get("OMP_NUM_THREADS"):
            torch.set_num_threads(int(threads))
        sys.argv = [CHILD, *arguments]
        runpy.run_module(CHILD, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def as_after_exec() -> None:
    """Leave the parent's descriptors, handlers of signals and settings of logs."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):
                os.close(int(name))
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.stdout, sys.stderr = (open(number, "w", 1, closefd=False) for number in (1, 2))  # noqa: SIM115
    logging.disable(logging.NOTSET)
    logging.getLogger().handlers.clear()
