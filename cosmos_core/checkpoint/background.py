"""A rank's side of saving in the background: copies the state, hands it over, and hears how it ended."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from threading import Thread
from typing import Any

from cosmos_core.checkpoint.job import SaveJob
from cosmos_core.checkpoint.saving_process import Reply, Request, Setup
from cosmos_core.checkpoint.staging import Staged, Staging, StagingMemory
from cosmos_core.config.env import child_environment, launched_rank, rendezvous
from cosmos_core.distributed.mesh import Mesh
from cosmos_core.launch.parent import child_command
from cosmos_core.launch.signals import stops_blocked
from cosmos_core.refs import Ref

__all__ = ["BackgroundSaver"]

logger = logging.getLogger(__name__)

PROGRAM = Ref("cosmos_core.checkpoint.saving_process:main")


class BackgroundSaver:
    """One process beside this rank, which carries out one save at a time. It ends with the rank.

    torch's own process checkpointer is not used: it needs a process group also for a single rank, hands over one open
    file per tensor, takes its memory from ``/dev/shm``, which containers keep small, goes on after its rank was killed,
    and when it was killed itself, every later save fails. A thread takes the interpreter from the training loop.
    """

    def __init__(self, components: Mapping[str, Any], mesh: Mesh, name: str) -> None:
        """Start the process. name: the same on all ranks, and new for each process. Raises OSError."""
        self._staged: Staged | None = None
        self._staging = Staging(components, mesh.device)
        self._connection, theirs = Pipe()
        try:
            self._process = _started(theirs.fileno(), self._staging.memory)
        except OSError:
            self._staging.release()
            raise
        theirs.close()
        place = rendezvous() if mesh.distributed and launched_rank() is not None else None
        with suppress(OSError):  # When the process ended, `result` says so.
            self._connection.send(Setup(mesh.rank, mesh.degrees, mesh.distributed, place, name))

    def fits(self, components: Mapping[str, Any]) -> bool:
        """Whether there is room for a state that may have grown."""
        return self._staging.fits(components)

    def begin(self, job: SaveJob, components: Mapping[str, Any], *, at_once: Collection[str]) -> None:
        """Begin to save. See `Staging.stage`, and call `before_change` before the components change."""
        begun = time.perf_counter()
        staged = self._staged = self._staging.stage(components, at_once=at_once)

        def hand_over() -> None:
            staged.wait()
            logger.debug("what is saved was copied after %.2f s", time.perf_counter() - begun)
            with suppress(OSError):
                self._connection.send(Request(job, staged.components))

        Thread(target=hand_over, name="save", daemon=True).start()

    def before_change(self) -> None:
        """Called before an update of what is being saved. Does not wait; the device does, for the copy."""
        if self._staged is not None:
            self._staged.before_change()
            self._staged = None

    @property
    def finished(self) -> bool:
        """Whether `result` need not wait."""
        return self._connection.poll()

    def result(self) -> Reply:
        """How the save ended; waits for it."""
        try:
            reply = self._connection.recv()
        except (EOFError, OSError):
            return Reply(crash=f"the process that saves ended with {_cause(self._process.wait())}")
        assert isinstance(reply, Reply)
        return reply

    def close(self) -> None:
        """End the process, and any save that it carries out."""
        self._process.kill()
        self._process.wait()
        self._connection.close()
        self._staging.release()


def _started(connection: int, memory: StagingMemory) -> subprocess.Popen[bytes]:
    """The process with its end of the connection and the memory, by their descriptors."""
    with stops_blocked():
        return subprocess.Popen(
            [sys.executable, *child_command(PROGRAM, str(connection), str(memory.file), str(memory.size))],
            pass_fds=(connection, memory.file),
            env=child_environment(CUDA_VISIBLE_DEVICES=""),  # It must not take memory of a GPU.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
