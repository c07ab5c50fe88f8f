"""A process that has imported everything and forks itself for each command, which saves seconds a test.

``python -m tests.zygote SOCKET`` reads one JSON object a connection: arguments, environment, working directory, and the
files that take the output. Each command is a process of its own; it answers with the exit code.

Where three streams come with the object, they are the command's; it becomes a child of the process that asked, which
gets its number at once.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from typing import Any, NoReturn

__all__: list[str] = []


def _imported() -> None:
    """What commands that train, convert or export import anyway; nothing here computes, so no threads run."""
    from cosmos_core.config.env import prepare_threads

    prepare_threads()
    import diffusers.schedulers.scheduling_unipc_multistep
    import matplotlib.figure
    import pyarrow.parquet
    import torch.distributed.checkpoint
    import torch.distributed.run
    import transformers

    import cosmos_core.cli.main
    import cosmos_core.train.evaluate_run
    import cosmos_core.train.worker
    import cosmos_data_bridge.dataset
    import cosmos_data_videophy.dataset
    import cosmos_vfm.family
    import cosmos_vlm.family

    assert all((diffusers, matplotlib, pyarrow, torch, transformers, cosmos_core))
    assert all((cosmos_data_bridge, cosmos_data_videophy, cosmos_vfm, cosmos_vlm))


def _command(request: dict[str, Any]) -> NoReturn:
    """Run one command in this (forked) process, which ends with its exit code."""
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = ["cosmos", *request["arguments"]]
    from cosmos_core.__main__ import main
    from tests.forked_children import fork_children

    fork_children()
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _into_files(request: dict[str, Any]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)


def _adopted(request: dict[str, Any], streams: list[int], connection: socket.socket) -> None:
    """Run a command in a child of this process, which ends before, so that the one that asked adopts the child."""
    from tests.forked_children import as_after_exec

    child = os.fork()
    if child:
        connection.sendall(f"{child}\n".encode())
        os._exit(0)
    deadline = time.monotonic() + 10
    while os.getppid() != request["parent"]:
        assert time.monotonic() < deadline, "not adopted"
        time.sleep(0.001)
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    as_after_exec()
    _command(request)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The request, and the streams that came with it, if any."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    return json.loads(text), streams


def main() -> None:
    """Serve until the socket's owner goes away."""
    _imported()
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{sys.argv[1]}.starting")
    server.listen()
    os.rename(f"{sys.argv[1]}.starting", sys.argv[1])
    parent = os.getppid()
    server.settimeout(5)
    while os.getppid() == parent:
        try:
            connection, _ = server.accept()
        except TimeoutError:
            continue
        with connection:
            connection.settimeout(None)
            request, streams = _received(connection)
            child = os.fork()
            if child == 0 and streams:
                _adopted(request, streams, connection)
            if child == 0:
                server.close()
                connection.close()
                _into_files(request)
                _command(request)
            _, status = os.waitpid(child, 0)
            if not streams:
                connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
            for stream in streams:
                os.close(stream)


if __name__ == "__main__":
    main()
