"""Collectives between devices, pair by pair, with checked values, bandwidth and a time limit."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist

from cosmos_core.doctor.check import Check, DoctorOptions, Result
from cosmos_core.doctor.peer import Group, serve_peer

__all__ = ["Peers", "check_group", "checks"]

ANSWER = 20.0
"""Seconds that a group of processes has."""
STARTING = 90.0
"""Seconds that a process has to import torch and to open its device."""
HINTS = {
    "nccl": "see `nvidia-smi topo -m` and `nvidia-smi nvlink -s`; if NCCL_P2P_DISABLE=1 helps, the link between these "
    "GPUs or the host's IOMMU settings are at fault; NCCL_DEBUG=INFO says more",
    "gloo": "set GLOO_SOCKET_IFNAME=lo if the host name leads to another interface",
}


def checks(options: DoctorOptions) -> Iterator[Check]:
    """Three collectives on every pair of GPUs, and on all of them; between two processes where there is no GPU."""
    cuda = torch.cuda.is_available()
    backend, available = ("nccl", dist.is_nccl_available()) if cuda else ("gloo", dist.is_gloo_available())
    if not available:
        yield Check(
            backend,
            partial(
                Result, status="broken", message="torch was built without it", hint="install another build of torch"
            ),
        )
    elif options.quick:
        yield Check(backend, partial(Result, status="skipped", message="left out by --quick"))
    else:
        peers = Peers("cuda" if cuda else "cpu")
        for members in _groups(torch.cuda.device_count() if cuda else 2):
            yield Check(_label(peers.device, members), partial(check_group, peers, members), STARTING + 2 * ANSWER)


def _groups(count: int) -> list[tuple[int, ...]]:
    pairs: list[tuple[int, ...]] = list(combinations(range(count), 2))
    return [*pairs, tuple(range(count))] if len(pairs) != 1 else pairs


def _label(device: str, members: tuple[int, ...]) -> str:
    return " <-> ".join(f"{'GPU' if device == 'cuda' else 'process'} {index}" for index in members)


class Peers:
    """Processes that form groups, one for each device, started when they are first needed.

    target: what such a process runs. limit: seconds that a group has.
    """

    def __init__(
        self, device: str, *, target: Callable[[Connection, str, int], None] = serve_peer, limit: float = ANSWER
    ) -> None:
        self.device, self.limit = device, limit
        self._target = target
        self._running: dict[int, tuple[BaseProcess, Connection]] = {}

    def run(self, members: tuple[int, ...]) -> dict[int, Result | None]:
        """What each member says after it formed a group with the others; None where it says nothing in time.

        Members that cannot be started are the only ones in the answer.
        """
        if failed := self._start(members):
            return failed
        connections = [self._running[index][1] for index in members]
        with tempfile.TemporaryDirectory(prefix="cosmos-doctor-") as folder:
            for rank, connection in enumerate(connections):
                connection.send(Group(Path(folder) / "rendezvous", rank, len(members)))
            deadline = time.monotonic() + self.limit
            answers = {
                index: _answer(connection, deadline) for index, connection in zip(members, connections, strict=True)
            }
        if any(answer is None or answer.status != "ok" for answer in answers.values()):
            self._end(members)
        return answers

    def _start(self, members: tuple[int, ...]) -> dict[int, Result | None]:
        """Start processes for members that have none; returns those that cannot be."""
        fresh = [index for index in members if index not in self._running]
        for index in fresh:
            context = multiprocessing.get_context("spawn")
            connection, child_end = context.Pipe()
            process = context.Process(target=self._target, args=(child_end, self.device, index), daemon=True)
            process.start()
            child_end.close()
            self._running[index] = process, connection
        deadline = time.monotonic() + STARTING
        answers = {index: _answer(self._running[index][1], deadline) for index in fresh}
        late = Result(status="broken", message=f"did not start in {STARTING:g} s")
        failed = {index: answer or late for index, answer in answers.items() if answer is None or answer.status != "ok"}
        self._end(tuple(failed))
        return dict(failed)

    def _end(self, members: tuple[int, ...]) -> None:
        for index in members:
            process, connection = self._running.pop(index)
            process.kill()
            process.join(1.0)
            connection.close()


def _answer(connection: Connection, deadline: float) -> Result | None:
    try:
        answer: Result | None = connection.recv() if connection.poll(max(0.0, deadline - time.monotonic())) else None
    except EOFError:
        return Result(status="broken", message="a process died")
    return answer


def check_group(peers: Peers, members: tuple[int, ...]) -> Result:
    """One group of `peers`: 'broken' when a member is silent, fails, or holds wrong values."""
    answers = peers.run(members)
    hint = HINTS["nccl" if peers.device == "cuda" else "gloo"]
    for index, answer in answers.items():
        if answer is not None and answer.status != "ok":
            return Result(status="broken", message=f"{_label(peers.device, (index,))}: {answer.message}", hint=hint)
    if None in answers.values():
        text = f"{_label(peers.device, members)}: no answer in {peers.limit:g} s"
        return Result(status="broken", message=text, hint=hint)
    first = answers[members[0]]
    assert first is not None
    return first
