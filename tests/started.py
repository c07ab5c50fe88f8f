"""Commands that are started with their imports done: real children, whose seconds of start-up no test waits for."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.command import zygote

__all__ = ["ForkedCosmos"]

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2)."""


class ForkedCosmos(subprocess.Popen[str]):
    """``cosmos ARGUMENTS...`` as the leader of a session, forked from a process that has imported what it needs.

    Its agent and ranks are forks as well. Python starts in none of them: a test of what happens then, or one that has
    every interpreter run something first, needs a fresh one. The command lines and the environments that the system
    shows are those of the process that was forked.
    """

    def _execute_child(self, args: Any, executable: Any, preexec: Any, close: Any, kept: Any, *rest: Any) -> None:
        """What `Popen` calls to start the program; `rest` is the folder, the environment, ..., the pipes' ends, ..."""
        assert preexec is None, "it cannot be handed over"
        assert not kept, "they cannot be handed over"
        cwd, environment, pipes = rest[0], rest[1], rest[5:11]
        streams = [mine if mine >= 0 else number for number, mine in enumerate((pipes[0], pipes[3], pipes[5]))]
        request = {
            "arguments": list(args),
            "env": dict(os.environ if environment is None else environment),
            "cwd": str(cwd or Path.cwd()),
            "parent": os.getpid(),
        }
        with socket.socket(socket.AF_UNIX) as connection, _adopting():
            connection.connect(str(zygote() / "socket"))
            socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], streams)
            self.pid = int(connection.makefile().readline())
            connection.recv(1)  # It is this process's child once what started it has ended.
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


@contextmanager
def _adopting() -> Iterator[None]:
    """Orphans among this process's descendants become its children while inside."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)
